#!/usr/bin/env python3
"""Decodes what `cuda-trace timeline` has written, and compares it with the lines of the trace.

    pip install perfetto==0.59.1 zstandard==0.25.0
    cuda-trace timeline TRACES --out FILE && check.py FILE TRACES

Perfetto's own descriptor reads the file, and Python's JSON the trace: nothing of this repository has
a part in it. The run must be a whole one, without --from, --to and --since.
"""

import argparse
import collections
import json
import pathlib
import sys

import zstandard
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

REALTIME, OF_TRACE = 1, 6
STATE_CLEARED, NEEDS_STATE = 1, 2
LAUNCHES = ("LaunchKernel", "LaunchCooperativeKernel", "GraphLaunch")

failures = collections.Counter()
examples = {}


def expect(condition, what, example=""):
    if not condition:
        failures[what] += 1
        examples.setdefault(what, example)


def packets(content):
    """The packets, each decoded by itself and proved to have no field that Perfetto does not know."""
    at = 0
    while at < len(content):
        expect(content[at] == 0x0A, "a field of the file is no packet", at)
        at += 1
        length = shift = 0
        while True:
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        packet = TracePacket()
        packet.ParseFromString(content[at : at + length])
        at += length
        size = packet.ByteSize()
        packet.DiscardUnknownFields()
        expect(packet.ByteSize() == size == length, "a packet has unknown fields", packet)
        yield packet


class Sequence:
    """What the packets of one writer have told the next ones."""

    def __init__(self):
        self.is_valid = False
        self.defaults = None
        self.names = [{} for _ in range(4)]
        self.clocks = {}

    def clear(self):
        self.__init__()
        self.is_valid = True

    def intern(self, data):
        for names, entries in zip(
            self.names,
            (data.event_names, data.event_categories, data.debug_annotation_names),
        ):
            names.update((entry.iid, entry.name) for entry in entries)
        texts = ((entry.iid, entry.str.decode()) for entry in data.debug_annotation_string_values)
        self.names[3].update(texts)

    def timestamp(self, packet):
        clock = packet.timestamp_clock_id
        if not packet.HasField("timestamp_clock_id"):
            clock = self.defaults.timestamp_clock_id if self.defaults else OF_TRACE
        if clock == OF_TRACE:
            return packet.timestamp
        expect(clock in self.clocks, "a timestamp is of a clock that is not told", packet)
        self.clocks[clock] = self.clocks.get(clock, 0) + packet.timestamp
        return self.clocks[clock]


def value_of(annotation, texts):
    field = annotation.WhichOneof("value")
    if field == "string_value_iid":
        expect(annotation.string_value_iid in texts, "a text is not told", annotation)
        return texts.get(annotation.string_value_iid)
    if field is None:
        return [value_of(value, texts) for value in annotation.array_values]
    return getattr(annotation, field)


Event = collections.namedtuple("Event", "time type track name args flows ends counter")


def read_timeline(path):
    """Events in Perfetto's order: by time, and those of one time as they stand in the file."""
    events, tracks, offsets = [], {}, []
    sequences = collections.defaultdict(Sequence)
    for packet in packets(path.read_bytes()):
        sequence = sequences[packet.trusted_packet_sequence_id]
        if packet.sequence_flags & STATE_CLEARED:
            sequence.clear()
        if packet.sequence_flags & NEEDS_STATE:
            expect(sequence.is_valid, "a packet needs a state that no packet has begun", packet)
        if packet.HasField("trace_packet_defaults"):
            sequence.defaults = packet.trace_packet_defaults
        if packet.HasField("interned_data"):
            sequence.intern(packet.interned_data)
        if packet.HasField("clock_snapshot"):
            clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
            sequence.clocks.update(clocks)
            if REALTIME in clocks:
                offsets.append(clocks[OF_TRACE] - clocks[REALTIME])
        if packet.HasField("track_descriptor"):
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            event = packet.track_event
            names, _, arguments, texts = sequence.names
            args = {}
            for annotation in event.debug_annotations:
                name = annotation.name or arguments.get(annotation.name_iid)
                expect(name, "an argument has no name", annotation)
                args[name] = value_of(annotation, texts)
            track = event.track_uuid
            if not event.HasField("track_uuid"):
                track = sequence.defaults.track_event_defaults.track_uuid
            events.append(
                Event(
                    sequence.timestamp(packet),
                    event.type,
                    track,
                    event.name or names.get(event.name_iid),
                    args,
                    list(event.flow_ids),
                    list(event.terminating_flow_ids),
                    event.counter_value,
                )
            )
    for event in events:
        expect(event.track in tracks, "an event is on a track that is not told", event)
    for track in tracks.values():
        parent = track.parent_uuid
        expect(not parent or parent in tracks, "a track lies below one that is not told", track)
    expect(all(abs(offset) < 10**9 for offset in offsets), "the clocks disagree", offsets)
    events.sort(key=lambda event: event.time)
    return events, tracks


Slice = collections.namedtuple("Slice", "begin end track name args depth")


def slices_of(events):
    """As Perfetto makes them: an end is that of the innermost slice of its track."""
    open_slices, found = collections.defaultdict(list), []
    for event in events:
        stack = open_slices[event.track]
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            expect(event.name, "a slice has no name", event)
            stack.append(event)
        elif event.type == TrackEvent.TYPE_SLICE_END:
            expect(stack, "an end has no beginning", event)
            if stack:
                begin = stack.pop()
                found.append(
                    Slice(begin.time, event.time, event.track, begin.name, begin.args, len(stack))
                )
    for stack in open_slices.values():
        expect(not stack, "a slice has no end", stack[:1])
    return found


def check_flows(events):
    """A flow begins at a call, may go on in the driver's part of it, and ends in a step behind."""
    begun, ended = collections.Counter(), set()
    for event in events:
        for flow in event.ends:
            expect(flow in begun, "a flow ends before it begins, or begins nowhere", event)
            expect(flow not in ended, "a flow ends twice", event)
            ended.add(flow)
        for flow in event.flows:
            expect(flow not in ended, "a flow goes on behind its end", event)
            expect(begun[flow] < 2, "a flow has more than two calls", event)
            begun[flow] += 1
    return begun, ended


def lines_of(paths):
    files = []
    for path in paths:
        files += sorted(path.rglob("trace_*.jsonl*")) if path.is_dir() else [path]
    for file in files:
        with open(file, "rb") as stream:
            if stream.peek(4)[:4] == b"\x28\xb5\x2f\xfd":
                stream = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
            rest = b""
            while piece := stream.read(1 << 22):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
            if rest.strip():
                yield json.loads(rest)


def nanoseconds(number, digits):
    return round(number * 10**digits)


def beginning(kernel, function):
    """Long names are cut, where no kernel is launched sooner."""
    return kernel and kernel[: 4000 if "Launch" in function else 150]


def thread_of(uuid, tracks):
    """Process and thread; the trace may not tell the thread. None of what is no call."""
    track = tracks[uuid]
    if track.HasField("thread"):
        return track.thread.pid, track.thread.tid
    if track.name.startswith("calls of a thread"):
        return tracks[track.parent_uuid].process.pid, None
    return None


def check_calls(slices, instants, tracks, paths):
    """Every call has its slice: thread, time, length, and what was launched."""
    offset, launches, calls, kernels = None, 0, collections.Counter(), {}
    for line in lines_of(paths):
        if line["type"] == "meta":
            if line["func"] == "segment_open" and offset is None:
                clock = line["clock"]
                offset = clock["realtime_ns"] - clock["monotonic_ns"] + clock["start_monotonic_ns"]
            if line["func"] == "kernel":
                kernels[line["id"]] = line["demangled"] or line["name"]
            continue
        begin = nanoseconds(line["ts"], 6) + (offset or 0)
        length = nanoseconds(line["dur_us"], 3) if "dur_us" in line else None
        calls[
            line["pid"],
            line.get("tid"),
            line["func"],
            begin,
            length,
            beginning(kernels.get(line.get("kernel")), line["func"]),
            tuple(line.get("grid") or ()),
            line.get("bytes"),
        ] += 1
        launches += any(name in line["func"] for name in LAUNCHES)
    shown, shown_launches = collections.Counter(), 0
    for piece in slices + instants:
        thread = thread_of(piece.track, tracks)
        if thread is None:
            continue
        length = None if piece.end is None else piece.end - piece.begin
        shown[
            *thread,
            piece.name,
            piece.begin,
            piece.args.get("dur_ns", length),
            beginning(piece.args.get("kernel"), piece.name),
            tuple(piece.args.get("grid", ())),
            piece.args.get("bytes"),
        ] += 1
        shown_launches += any(name in piece.name for name in LAUNCHES)
    missing, extra = calls - shown, shown - calls
    expect(not missing, "calls have no slice of their own", (missing.total(), list(missing)[:2]))
    expect(not extra, "slices are of no call", (extra.total(), list(extra)[:2]))
    expect(launches == shown_launches, "launches", (launches, shown_launches))
    return calls.total(), launches


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("traces", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()
    events, tracks = read_timeline(arguments.file)
    slices = slices_of(events)
    instants = [
        Slice(event.time, None, event.track, event.name, event.args, 0)
        for event in events
        if event.type == TrackEvent.TYPE_INSTANT
    ]
    begun, ended = check_flows(events)
    calls, launches = check_calls(slices, instants, tracks, arguments.traces)
    for what, count in failures.items():
        print(f"FAILED {count} times: {what}: {str(examples[what])[:600]}", file=sys.stderr)
    by_name = collections.Counter(
        tracks[piece.track].name or "calls of threads" for piece in slices + instants
    )
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(by_name.items()))
    print(f"{arguments.file}: {calls} calls, {launches} launches, each with its slice; {kinds}")
    print(f"{len(begun)} flows, {len(ended)} to steps; {len(tracks)} tracks")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
