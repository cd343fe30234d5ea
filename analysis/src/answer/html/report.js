// The report works without this script: it adds charts, sorting, and rows that are folded away.
"use strict";

(() => {
  document.documentElement.classList.add("js");
  const data = JSON.parse(document.getElementById("charts").textContent);

  // --- Figures, written as the tables write them.

  const rounded = (number) => {
    const size = Math.abs(number);
    if (size === 0) return "0";
    if (size < 0.01) return number.toExponential(1);
    if (size < 1) return number.toFixed(3);
    if (size < 10) return number.toFixed(2);
    if (size < 100) return number.toFixed(1);
    return number.toFixed(0).replace(/\B(?=(\d{3})+(?!\d))/g, "\u00a0");
  };
  const inSteps = (number, step, names) => {
    let at = 0;
    while (Math.abs(number) >= step && at < names.length - 1) {
      number /= step;
      at += 1;
    }
    return `${rounded(number)}\u00a0${names[at]}`;
  };
  const shown = (number, unit) => {
    if (number == null) return "-";
    switch (unit) {
      case "ns":
        return inSteps(number, 1000, ["ns", "us", "ms", "s"]);
      case "bytes":
        return inSteps(number, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
      case "ratio":
        return `${rounded(number * 100)}\u00a0%`;
      case "per_second":
        return `${rounded(number)}/s`;
      default:
        return rounded(number);
    }
  };
  const atSecond = (seconds) => shown(seconds * 1e9, "ns");

  // --- Charts.

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (at) => style(`--c${at % 8}`);
  const HEIGHT = 220;

  const axes = (unit) => {
    const common = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false } };
    return [
      { ...common, values: (_, splits) => splits.map((value) => (value == null ? "" : `${value}`)), label: "seconds since the start of the run", labelSize: 18, size: 34, labelGap: 0, labelFont: "12px sans-serif" },
      { ...common, size: 72, values: (_, splits) => splits.map((value) => (value == null ? "" : shown(value, unit))) },
    ];
  };

  // Base units of time and bytes are not those of ten: ticks stand where a reader expects them.
  const increments = (unit) => {
    const found = [];
    for (let power = 0; power < 18; power += 1) {
      if (unit === "bytes") {
        for (const factor of [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]) {
          if (power < 6) found.push(factor * 1024 ** power);
        }
      } else {
        for (const factor of [1, 2, 2.5, 5]) found.push(factor * 10 ** (power - (unit === "count" ? 0 : 3)));
      }
    }
    return unit === "count" ? found.filter((value) => Number.isInteger(value)) : found;
  };

  // A dot and a line where the largest value is.
  const markPeak = (at) => (plot) => {
    const [xs, ys] = plot.data;
    if (ys[at] == null) return;
    const x = plot.valToPos(xs[at], "x", true);
    const y = plot.valToPos(ys[at], "y", true);
    const { left, top, width, height } = plot.bbox;
    if (x < left || x > left + width) return;
    const { ctx } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = style("--peak");
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, top + height);
    ctx.lineTo(x, y);
    ctx.stroke();
    ctx.beginPath();
    ctx.arc(x, y, 4 * ratio, 0, 2 * Math.PI);
    ctx.fill();
    ctx.restore();
  };

  const overTime = (chart) => {
    const xs = chart.values.map((_, at) => chart.start_s + at * chart.width_s);
    const label = chart.is_level ? "highest" : "count";
    return {
      data: [xs, chart.values],
      first: chart.peak,
      options: {
        series: [
          { label: "from", value: (_, x) => (x == null ? "-" : atSecond(x)) },
          {
            label,
            stroke: color(0),
            fill: style("--fill"),
            width: 1.5,
            paths: chart.is_level ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.bars({ size: [1, 1e9], align: 1 }),
            points: { show: false },
            value: (_, y) => shown(y, chart.unit),
          },
        ],
        scales: { x: { time: false }, y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
        hooks: { draw: [markPeak(chart.peak)] },
      },
      told: (at) => `${shown(chart.values[at], chart.unit)}, from ${atSecond(xs[at])} on`,
    };
  };

  const points = (chart) => {
    // One list of times for all colours; a colour has no value at the times of the others.
    const all = chart.groups.flatMap((group, at) => group.x.map((x, place) => [x, at, group.y[place]]));
    all.sort((one, other) => one[0] - other[0]);
    const values = chart.groups.map((_, at) => all.map((point) => (point[1] === at ? point[2] : null)));
    const ys = all.map((point) => point[2]);
    const isWide = Math.min(...ys) > 0 && Math.max(...ys) > 30 * Math.min(...ys);
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const series = chart.groups.map((group) => ({
      label: group.name,
      stroke: color(group.color),
      fill: group.is_bound ? style("--page") : color(group.color),
      paths: () => null,
      points: { show: true, size: 6, width: 1.5, fill: group.is_bound ? style("--page") : color(group.color), stroke: color(group.color) },
      value: (_, y) => shown(y, chart.unit),
    }));
    return {
      data: [all.map((point) => point[0]), ...values],
      first: ys.indexOf(high),
      options: {
        series: [{ label: "at", value: (_, x) => (x == null ? "-" : atSecond(x)) }, ...series],
        scales: {
          x: { time: false },
          y: isWide
            ? { distr: 3, range: () => uPlot.rangeLog(low, high, 10, false) }
            : { range: (_, min, max) => [0, (max || 1) * 1.08] },
        },
      },
      told: (at) => `${chart.groups[all[at][1]].name}: ${shown(all[at][2], chart.unit)}, at ${atSecond(all[at][0])}`,
    };
  };

  const plots = [];

  const draw = (element) => {
    const chart = data[Number(element.dataset.chart)];
    const made = chart.kind === "series" ? overTime(chart) : points(chart);
    const { options, told } = made;
    const [xAxis, yAxis] = axes(chart.unit);
    if (options.scales.y.distr === 3) {
      const isRound = (value) => /^[125]\.0+e/.test(value.toExponential(3));
      yAxis.filter = (_, splits) => splits.map((value) => (isRound(value) ? value : null));
      yAxis.grid = { ...yAxis.grid, filter: yAxis.filter };
    } else {
      yAxis.incrs = increments(chart.unit);
    }
    element.replaceChildren();
    const plot = new uPlot(
      {
        ...options,
        width: element.clientWidth,
        height: HEIGHT,
        axes: [xAxis, yAxis],
        cursor: { drag: { x: true, y: false }, y: false, focus: { prox: 24 } },
        legend: { live: true },
      },
      made.data,
      element,
    );
    plots.push(plot);
    // Who hears the page is told the same by the slider.
    plot.root.querySelector(".u-legend").setAttribute("aria-hidden", "true");
    const ends = made.data[0];
    element.setAttribute("aria-valuemax", String(ends.length - 1));
    let at = made.first;
    const move = (to) => {
      at = Math.min(Math.max(to, 0), ends.length - 1);
      element.setAttribute("aria-valuenow", String(at));
      element.setAttribute("aria-valuetext", told(at));
      plot.setCursor({ left: plot.valToPos(ends[at], "x"), top: 0 });
    };
    const zoom = (factor) => {
      const { min, max } = plot.scales.x;
      const half = ((max - min) * factor) / 2;
      const [first, last] = [ends[0], ends[ends.length - 1]];
      const middle = Math.min(Math.max(ends[at], first + half), Math.max(last - half, first + half));
      plot.setScale("x", { min: Math.max(middle - half, first), max: Math.min(middle + half, last) });
      move(at);
    };
    const far = Math.max(1, Math.round(ends.length / 20));
    const keys = {
      ArrowLeft: () => move(at - 1),
      ArrowRight: () => move(at + 1),
      ArrowDown: () => move(at - 1),
      ArrowUp: () => move(at + 1),
      PageDown: () => move(at - far),
      PageUp: () => move(at + far),
      Home: () => move(0),
      End: () => move(ends.length - 1),
      "+": () => zoom(0.5),
      "=": () => zoom(0.5),
      "-": () => zoom(2),
      Escape: () => zoom(1e9),
    };
    element.onkeydown = (event) => {
      const action = keys[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    };
    element.setAttribute("aria-valuenow", String(at));
  };

  const drawAll = () => {
    plots.splice(0).forEach((plot) => plot.destroy());
    document.querySelectorAll("[data-chart]").forEach(draw);
  };
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => {
      for (const plot of plots) plot.setSize({ width: plot.root.parentElement.clientWidth, height: HEIGHT });
    }, 100);
  });

  // --- Tables.

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (one, other) => {
    if (typeof one === typeof other) return one < other ? -1 : one > other ? 1 : 0;
    return typeof one === "number" ? 1 : -1;
  };

  for (const table of document.querySelectorAll("table[data-shown]")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const most = Number(table.dataset.shown);
    const fold = () => [...body.rows].forEach((row, at) => row.classList.toggle("more", at >= most));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.tagName !== "TH") return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = head.title;
      head.replaceChildren(button);
      button.onclick = () => {
        const isNumber = head.classList.contains("n");
        const before = head.getAttribute("aria-sort");
        const sign = before === null ? (isNumber ? -1 : 1) : before === "ascending" ? -1 : 1;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        rows.sort((one, other) => sign * compare(key(one, column), key(other, column)));
        body.replaceChildren(...rows);
        fold();
      };
    });
    const foot = document.createElement("p");
    foot.className = "controls";
    const control = (text, action) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-controls", table.id);
      button.onclick = () => {
        const isOn = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", String(isOn));
        button.textContent = action(isOn);
      };
      foot.append(button);
    };
    if (rows.length > most) {
      const more = `Show all ${rows.length} rows`;
      control(more, (isOn) => {
        table.classList.toggle("all", isOn);
        return isOn ? `Show ${most} rows` : more;
      });
    }
    if (rows.some((row) => [...row.cells].some((cell) => cell.textContent.length > 60))) {
      control("Show whole names", (isOn) => {
        table.classList.toggle("whole", isOn);
        return isOn ? "Shorten names" : "Show whole names";
      });
    }
    if (foot.childElementCount > 0) table.parentElement.after(foot);
  }
})();
