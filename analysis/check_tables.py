"""Called by check-tables.sh: exports traces, and holds what SQL finds in the tables against `cuda-trace summary`."""

import datetime
import json
import os
import re
import subprocess
import sys

import duckdb

# A quantile of `cuda-trace` lies no further from the truth than this, as a part of it; half a
# nanosecond more, as durations are whole.
QUANTILE_ERROR = 1 / 128

FUNCTIONS = """
    SELECT func, count(*), sum(dur_ns), max(dur_ns), quantile_disc(dur_ns, 0.5), quantile_disc(dur_ns, 0.99)
    FROM calls WHERE run = $run GROUP BY func
"""
PROCESSES = """
    SELECT pid, any_value(role), count(*), sum(dur_ns) FILTER (depth = 0), min(ts_ns),
           max(ts_ns + coalesce(dur_ns, 0))
    FROM calls WHERE run = $run GROUP BY pid
"""
# As `summary` counts them: a result that is a number but no error code has no name.
ERRORS = """
    SELECT func, ret, any_value(error), count(*), min(ts_ns)
    FROM calls WHERE run = $run AND ret <> 0 AND error IS NOT NULL GROUP BY func, ret
"""


TRACES = "traces"


def fail(text):
    sys.exit(f"error: {text[:1000]}")


def equal(what, found, expected):
    if found != expected:
        fail(f"{what}: the tables have {found}, cuda-trace says {expected}")


def near(what, found, expected):
    if found is None or expected is None:
        return equal(what, found, expected)
    if abs(found - expected) > max(found * QUANTILE_ERROR, 0.5):
        fail(f"{what}: the tables have {found}, cuda-trace says {expected}")


def summaries(program, *paths):
    text = subprocess.run([program, "summary", "--json", *paths], check=True, capture_output=True, text=True).stdout
    # Where a segment lay is not exported, and gaps of the whole run come first where it is read back.
    answers = [json.loads(line.replace(TRACES + "/", "")) for line in text.splitlines()]
    for answer in answers:
        answer["gaps"].sort(key=lambda gap: gap["text"])
    return {answer["run"]["name"]: answer for answer in answers}


def rows(connection, sql, run):
    return connection.execute(sql, {"run": run} if "$run" in sql else None).fetchall()


def check_run(connection, run, summary):
    found = {row[0]: row[1:] for row in rows(connection, FUNCTIONS, run)}
    said = {row["function"]: row for row in summary["functions"] if row["lines"]}
    equal(f"{run}: functions", sorted(found), sorted(said))
    for function, (calls, total, longest, p50, p99) in found.items():
        row = said[function]
        equal(f"{run}: lines of {function}", calls, row["lines"])
        equal(f"{run}: time in {function}", total, row["total_ns"])
        equal(f"{run}: the longest {function}", longest, row["max_ns"])
        near(f"{run}: p50 of {function}", p50, row["p50_ns"])
        near(f"{run}: p99 of {function}", p99, row["p99_ns"])

    found = sorted(rows(connection, PROCESSES, run))
    said = sorted(
        tuple(row[name] for name in ("pid", "role", "calls", "in_api_ns", "first_call_ns", "last_call_ns"))
        for row in summary["processes"]
    )
    equal(f"{run}: processes", found, said)

    found = sorted(rows(connection, ERRORS, run))
    said = sorted(
        tuple(row[name] for name in ("function", "code", "name", "count", "first_ns"))
        for row in summary["errors"]
        if row["name"] is not None
    )
    equal(f"{run}: errors", found, said)

    # How the counts are known.
    columns = summary["columns"]["functions"]["calls"]
    found = {row[0]: row[1:] for row in rows(connection, "SELECT func, calls, grade FROM functions WHERE run = $run", run)}
    for row in summary["functions"]:
        grade = row.get("grades", {}).get("calls", columns)["grade"]
        equal(f"{run}: calls of {row['function']}", found.get(row["function"]), (row["calls"], grade))
    gaps = sorted(row[0].replace(TRACES + "/", "") for row in rows(connection, "SELECT text FROM gaps WHERE run = $run", run))
    equal(f"{run}: gaps", gaps, sorted(gap["text"] for gap in summary["gaps"]))
    first = connection.execute("SELECT epoch_us(min(time)) FROM calls WHERE run = $run", {"run": run}).fetchone()[0]
    said = summary["figures"]["first_call_unix_ns"]["value"]
    equal(f"{run}: first call", first, said and said // 1000)
    return sum(row["lines"] for row in summary["functions"])


def queries(document):
    """Those of the documentation, by language."""
    text = open(document, encoding="utf-8").read()
    return re.findall(r"^```(sql|duckdb|athena|spark)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def check_duckdb(expected, documented):
    connection = duckdb.connect()
    run_any = 0
    for language, text in documented:
        if language != "sql":
            continue
        for statement in filter(str.strip, text.split(";")):
            result = connection.execute(statement).fetchall()
            if statement.lstrip().upper().startswith("CREATE"):
                continue
            run_any += 1
            if not result:
                fail(f"a query of the documentation finds nothing:\n{statement}")
    if not run_any:
        fail("the documentation has no query")
    runs = {row[0] for row in connection.execute("SELECT run FROM runs").fetchall()}
    equal("runs", runs, set(expected))
    lines = sum(check_run(connection, run, summary) for run, summary in expected.items())
    dates = connection.execute("SELECT DISTINCT date FROM calls WHERE host = 'gpu-b'").fetchall()
    equal("partition", dates, [(datetime.date(2026, 11, 30),)])
    print(f"ok: DuckDB {duckdb.__version__} finds in {lines} calls of {len(runs)} runs what cuda-trace says;"
          f" {run_any} queries of the documentation run", file=sys.stderr)


def check_bucket(documented):
    """Segments that the sidecar has made tables: a row is a line, and no line is missing."""
    connection = duckdb.connect()
    asked = {}
    for language, text in documented:
        if language == "duckdb":
            for statement in filter(str.strip, text.replace("s3://BUCKET/traces", "bucket").split(";")):
                asked[statement] = connection.execute(statement).fetchall()
    equal("statements over a bucket", len(asked), 4)
    *_, by_function, missing = asked.values()
    equal("nodes", {row[1] for row in by_function} <= {"a", "b", "c"} and len(by_function), 20)
    equal("calls that are not in the bucket", [row for row in missing if "gpu-c" in row[0]],
          [("gpu-c_20261201T101500.000Z", "cuMemAlloc_v2", 1, 2, 0)])
    found = dict(connection.execute("SELECT func, count(*) FROM calls GROUP BY func").fetchall())
    with open("verified.json", encoding="utf-8") as file:
        verified = json.load(file)
    said = {func: counts["lines"] for func, counts in verified["functions"].items() if counts["lines"]}
    equal("lines by function", found, said)
    equal("files", connection.execute("SELECT count(DISTINCT (run, segment)) FROM lines").fetchone()[0], verified["files"])
    for language, text in documented:
        if language == "athena" and "TABLE lines" in text:
            described = connection.execute("DESCRIBE lines").fetchall()
            columns = re.sub(r"[\s`]+", " ", text[text.index("(") + 1 : text.index(")")]).split(",")
            types = {"bigint": "BIGINT", "string": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE"}
            columns = [tuple(column.split()) for column in columns]
            columns = [(name, types[kind]) for name, kind in columns]
            equal("columns in Athena's words", columns, [row[:2] for row in described if row[0] not in ("date", "node", "pod")])
    print(f"ok: DuckDB finds in {sum(found.values())} calls of a bucket what verify says", file=sys.stderr)


def check_spark(expected, documented):
    import pyspark
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for language, text in documented:
        if language == "spark":
            exec(text, {"spark": spark})
    for run, summary in expected.items():
        found = spark.sql(
            "SELECT func, count(*) AS calls, sum(dur_ns) AS total, max(dur_ns) AS longest FROM calls"
            f" WHERE run = '{run}' GROUP BY func"
        ).collect()
        found = {row.func: (row.calls, row.total, row.longest) for row in found}
        said = {
            row["function"]: (row["lines"], row["total_ns"], row["max_ns"])
            for row in summary["functions"]
            if row["lines"]
        }
        equal(f"Spark: {run}", found, said)
    count = spark.sql("SELECT count(*) AS calls FROM calls WHERE date = DATE '2026-11-30' AND host = 'gpu-b'").first().calls
    equal("Spark: partition", count > 0, True)
    print(f"ok: Spark {pyspark.__version__} finds the same", file=sys.stderr)
    spark.stop()


def main(program, scratch, document, *flags):
    program, document = os.path.abspath(program), os.path.abspath(document)
    os.chdir(scratch)
    paths = [TRACES, "other.jsonl", "failed.jsonl"]
    subprocess.run([program, "export", *paths, "--out", "tables"], check=True, stdout=subprocess.DEVNULL)
    expected = summaries(program, *paths)
    # What is read back is what was written, to the last figure.
    back = summaries(program, "tables")
    equal("runs that are read back", sorted(back), sorted(expected))
    for run, summary in expected.items():
        for part in summary:
            equal(f"{run}: {part} as read back", back[run].get(part), summary[part])
    documented = queries(document)
    check_duckdb(expected, documented)
    check_bucket(documented)
    if "--spark" in flags:
        check_spark(expected, documented)
    # A check that finds no fault proves nothing: a call less must be noticed.
    connection = duckdb.connect()
    connection.execute("CREATE TABLE gaps AS FROM 'tables/gaps/**/*.parquet'")
    connection.execute("CREATE TABLE functions AS FROM 'tables/functions/**/*.parquet'")
    connection.execute("CREATE TABLE calls AS FROM 'tables/calls/**/*.parquet' WHERE func <> 'cudaEventRecord' OR line % 97 <> 5")
    try:
        for run, summary in expected.items():
            check_run(connection, run, summary)
    except SystemExit:
        return
    fail("calls were left out, and nothing noticed it")


main(*sys.argv[1:])
