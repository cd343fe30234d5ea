#!/usr/bin/env python3
"""Imports a timeline into Perfetto's trace_processor, and compares what SQL says with `cuda-trace --json`.

    cuda-trace summary,launches,timeline TRACES --out FILE --json >ANSWERS
    check_import.py FILE ANSWERS DIRECTORY

DIRECTORY is the unpacked package with the processor, see trace_processor.js. Version 20.1 in it knows flows by
their older fields only (36 and 42, varints, instead of 47 and 48), so it gets a copy in which the flows have these;
the rest of the file stays byte for byte. The run must be a whole one.
"""

import argparse
import json
import pathlib
import subprocess
import sys

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace
from perfetto.trace_processor.platform import PlatformDelegate
from perfetto.trace_processor.protos import ProtoFactory

APPEND, FINALIZE, QUERY = 1, 2, 3
NULL, VARINT, FLOAT, STRING, BLOB = range(1, 6)
PIECE = 1 << 20

failures = []


def expect(found, expected, what):
    if found != expected:
        failures.append(f"{what}: {str(found)[:500]} instead of {str(expected)[:500]}")


def with_older_flows(content):
    trace = Trace()
    trace.ParseFromString(content)
    pieces = []
    for packet in trace.packet:
        event = packet.track_event
        if event.flow_ids or event.terminating_flow_ids:
            event.flow_ids_old.extend(event.flow_ids)
            event.terminating_flow_ids_old.extend(event.terminating_flow_ids)
            event.ClearField("flow_ids")
            event.ClearField("terminating_flow_ids")
        piece = Trace()
        piece.packet.append(packet)
        pieces.append(piece.SerializeToString())
    return b"".join(pieces)


class Processor:
    """One trace, and queries of it, in one life of the program."""

    def __init__(self, content, queries, directory):
        protos = ProtoFactory(PlatformDelegate())
        requests = []

        def add(kind):
            stream = protos.TraceProcessorRpcStream()
            requests.append(stream)
            request = stream.msg.add()
            request.seq, request.request = len(requests), kind
            return request

        for at in range(0, len(content), PIECE):
            add(APPEND).append_trace_data = content[at : at + PIECE]
        add(FINALIZE)
        for query in queries.values():
            add(QUERY).query_args.sql_query = query
        script = pathlib.Path(__file__).with_name("trace_processor.js")
        process = subprocess.run(
            ["node", script, directory],
            input=b"".join(request.SerializeToString() for request in requests),
            stdout=subprocess.PIPE,
            check=True,
        )
        answers = protos.TraceProcessorRpcStream()
        answers.ParseFromString(process.stdout)
        self.answers, names = {}, iter(queries)
        name = None
        is_whole = True
        for answer in answers.msg:
            expect(answer.append_result.error, "", "a part of the file is refused")
            if not answer.HasField("query_result"):
                continue
            if is_whole:
                name, columns, is_whole = next(names), [], False
                self.answers[name] = []
            result = answer.query_result
            expect(result.error, "", f"the query {name}")
            columns = columns or list(result.column_names)
            for batch in result.batch:
                cells = list(self.cells(batch))
                width = len(columns) or 1
                rows = [tuple(cells[at : at + width]) for at in range(0, len(cells), width)]
                self.answers[name] += rows
                is_whole |= batch.is_last_batch
            is_whole |= bool(result.error)
        expect(list(self.answers), list(queries), "queries that were answered")

    @staticmethod
    def cells(batch):
        values = {
            VARINT: iter(batch.varint_cells),
            FLOAT: iter(batch.float64_cells),
            STRING: iter(batch.string_cells.split("\0")),
            BLOB: iter(batch.blob_cells),
        }
        for kind in batch.cells:
            yield None if kind == NULL else next(values[kind])


IS_CALL = """(s.track_id in (select id from thread_track)
    or s.track_id in (select id from track where name like 'calls of a thread%'))"""

QUERIES = {
    # Of the file: what the importer could not make sense of.
    "errors": """select name, value from stats
        where value != 0 and (severity in ('error', 'data_loss') or name like 'flow_%')""",
    # Slices of calls by function, with all of their time.
    "calls": f"select s.name, count(*), sum(s.dur) from slice s where {IS_CALL} group by s.name",
    "unfinished": "select count(*) from slice where dur < 0",
    # The driver's call lies in the runtime's.
    "nested": f"""select count(*), sum(s.ts >= p.ts and s.ts + s.dur <= p.ts + p.dur) from slice s
        join slice p on s.parent_id = p.id where {IS_CALL}""",
    "steps": "select count(*) from slice s join track t on s.track_id = t.id where t.name = 'steps'",
    # Each flow of a step arrives once, from a call that had begun.
    "flows to steps": """select count(*), count(distinct f.slice_out), sum(o.ts <= i.ts + i.dur)
        from flow f join slice i on f.slice_in = i.id join slice o on f.slice_out = o.id
        join track t on i.track_id = t.id where t.name = 'steps in flight'""",
    # A flow to the GPU comes from a launch that had begun.
    "flows to the GPU": f"""select count(*), count(distinct f.slice_out), sum(s.ts <= i.ts)
        from flow f join slice i on f.slice_in = i.id join slice s on f.slice_out = s.id
        join track t on i.track_id = t.id where t.name like 'stream %' and {IS_CALL}""",
    "GPU": """select count(*) from slice s join track t on s.track_id = t.id
        where t.name like 'stream %'""",
    "other flows": f"""select count(*) from flow f join slice s on f.slice_in = s.id
        where not {IS_CALL} and s.track_id not in
            (select id from track where name = 'steps in flight' or name like 'stream %')""",
    "launch rate": """select sum(value) from counter c join counter_track t on c.track_id = t.id
        where t.name = 'launches per second'""",
    "live memory": """select sum(value) from (select value, row_number() over
            (partition by track_id order by ts desc, c.id desc) as number
        from counter c join counter_track t on c.track_id = t.id
        where t.name = 'live device memory') where number = 1""",
    "requests": """select sum(depth = 0), sum(depth = 1), sum(depth > 1) from slice s
        join track t on s.track_id = t.id where t.name like 'requests of %'""",
    "threads": "select count(distinct tid) from thread where tid != 0",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("answers", type=pathlib.Path)
    parser.add_argument("directory", type=pathlib.Path)
    arguments = parser.parse_args()
    told = map(json.loads, arguments.answers.read_text().splitlines())
    told = {answer["question"]: answer for answer in told}
    figures = {
        question: {name: figure["value"] for name, figure in answer["figures"].items()}
        for question, answer in told.items()
    }
    timeline = figures["timeline"]
    content = with_older_flows(arguments.file.read_bytes())
    found = Processor(content, QUERIES, arguments.directory).answers

    expect(found["errors"], [], "errors of the import")
    instants = timeline["instants"]
    functions = told["summary"]["functions"]
    count = {row["function"]: row["lines"] for row in functions}
    expect({name: calls for name, calls, _ in found["calls"]}, count, "slices by function")
    if instants == 0:
        took = {row["function"]: row["total_ns"] for row in functions}
        expect({name: ns for name, _, ns in found["calls"]}, took, "time of slices by function")
    expect(sum(count.values()), timeline["slices"] + instants, "slices of calls")
    expect(found["unfinished"], [(0,)], "slices without an end")
    [(nested, inside)] = found["nested"]
    expect(inside or 0, nested, "calls that lie in another")
    expect(found["steps"], [(timeline["steps"],)], "steps")
    [(flows, callers, begun)] = found["flows to steps"]
    expect(
        (flows, callers, begun or 0), (timeline["flows_to_steps"],) * 3, "flows that arrive at a step"
    )
    expect(found["other flows"], [(0,)], "flows to what is neither call nor step")
    [(flows_to_gpu, callers, begun)] = found["flows to the GPU"]
    expected = (timeline.get("flows_to_gpu", 0),) * 3
    expect((flows_to_gpu, callers, begun or 0), expected, "flows that arrive at the GPU")
    expect(found["GPU"], [(timeline.get("gpu_slices", 0),)], "slices of the GPU")
    launches = figures["launches"]
    [(rate,)] = found["launch rate"]
    expect((rate or 0) / 100, launches["launches"] + launches["replays"], "launches by their rate")
    [(live,)] = found["live memory"]
    expect(live or 0, timeline["live_bytes"], "live memory at the end")
    if "requests" in timeline:
        expected = [(timeline["requests"], timeline["tokens"], 0)]
        expect(found["requests"], expected, "requests and tokens")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    more = f", {timeline['tokens']} tokens" if "tokens" in timeline else ""
    more += f", {flows_to_gpu} flows to the GPU" if flows_to_gpu else ""
    if not failures:
        print(
            f"{arguments.file}: trace_processor has {timeline['slices']} slices of {len(count)} "
            f"functions in {found['threads'][0][0]} threads, {flows} flows to {timeline['steps']} "
            f"steps{more}, no error"
        )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
