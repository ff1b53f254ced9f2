# Streams that no stage writes, on standard output:
#
#   stream.py odd
#       one record of a kind that is not known, with a control character in it
#   stream.py fisher I/N LENGTH SAMPLES [KEY=VALUE]...
#       shard I/N of squared gradients over SAMPLES sequences of LENGTH tokens,
#       made up; KEY=VALUE is put into the heads that have such a key
#   stream.py fisher-of-calibrated I/N LENGTH SAMPLES
#       the same with tokens and a statistic of a calibration before it
#   stream.py calib-of-fisher I/N LENGTH SAMPLES
#       a shard of a calibration after squared gradients
#   stream.py changed FILE CODE
#       the stream of FILE as Python CODE leaves it, which sees records, a list of
#       [head, [part's bytes, ...]], and of(key=value, ...), the records whose heads
#       say that
import struct
import sys

import msgpack
import xxhash

xxh3 = xxhash.xxh3_64_intdigest
pack = msgpack.packb


def fixed(n):
    return struct.pack(">BQ", 0xCF, n)


def written(header, records):
    """A stream; records are pairs of a head and the bytes of its parts."""
    raw = pack(header)
    hashes, index = [xxh3(raw)], []
    out = bytearray(raw + fixed(hashes[0]))
    for head, parts in records:
        raw = pack(head | {"parts": [[name, len(data)] for (name, _), data in zip(head["parts"], parts)]})
        index.append([head.get("name", head["kind"]), len(out)])
        hashes.append(xxh3(raw + b"".join(parts)))
        out += raw
        for data in parts:
            out += struct.pack(">BI", 0xC6, len(data)) + data
        out += fixed(hashes[-1])
    steps = header["steps"]
    end = b"\x87" + pack("kind") + pack("end") + pack("records") + pack(len(hashes))
    end += pack("hash") + fixed(xxh3(struct.pack("<%dQ" % len(hashes), *hashes))) + pack("index") + pack(index)
    end += pack("inputs") + bytes([0x90 + len(steps)]) + fixed(0) * len(steps)
    return bytes(out) + end + pack("check") + fixed(xxh3(end)) + pack("at") + fixed(len(out))


def stream(steps, records):
    """A stream of no model; steps are pairs of a stage and its options, records
    of a head and its part's bytes."""
    header = {"tinycompress": 1, "config": "{}", "tied": False, "parameters": 0, "base_quantized": "",
              "steps": [[stage, "0123456789abcdef", "", options] for stage, options in steps]}
    return written(header, [(head | {"parts": [["data", 0]]}, [data]) for head, data in records])


def read(path):
    """A stream's header and its records."""
    data = open(path, "rb").read()
    objects = msgpack.Unpacker(max_buffer_size=len(data) + 1)
    objects.feed(data)
    header, records = objects.unpack(), []
    objects.unpack()
    while (head := objects.unpack())["kind"] != "end":
        parts = []
        for _, size in head.get("parts", []):
            part = b""
            while len(part) < size:
                part += objects.unpack() or b""
            parts.append(part)
        records.append([head, parts])
        objects.unpack()
    return header, records


def changed(path, code):
    header, records = read(path)

    def of(**says):
        return [r for r in records if all(r[0].get(key) == value for key, value in says.items())]

    exec(code, {"records": records, "of": of, "struct": struct})
    return written(header, records)


# The tensor's rows and columns, and how many columns are a group.
ROWS, COLUMNS, GROUP = 2, 3, 2


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def leaf(kind, sequence):
    """What one sequence gives: numbers whose sums round."""
    g2 = [[1 / (3 + 7 * sequence + 2 * r + 5 * c) for c in range(COLUMNS)] for r in range(ROWS)]
    s = sum(map(sum, g2))
    return {
        "sq": [s],
        "fisher": [s, s * s],
        "fisher_weight": [f32(x) for row in g2 for x in row],
        "fisher_row": [sum(row) for row in g2],
        "fisher_column": [sum(column) for column in zip(*g2)],
        "fisher_group": [sum(row[c:c + GROUP]) for row in g2 for c in range(0, COLUMNS, GROUP)],
    }[kind]


def node_sum(kind, level, index):
    if level == 0:
        return leaf(kind, index)
    left, right = node_sum(kind, level - 1, 2 * index), node_sum(kind, level - 1, 2 * index + 1)
    return [f32(a + b) if kind == "fisher_weight" else a + b for a, b in zip(left, right)]


def subtrees(first, last):
    """The largest ones that cover sequences first to last - 1."""
    while first < last:
        level = 0
        while first % (2 << level) == 0 and first + (2 << level) <= last:
            level += 1
        yield level, first >> level
        first += 1 << level


def tokens(first, last, length, tag):
    head = {"kind": "tokens", "critical": False, "tag": tag, "text_sha256": "", "first": first,
            "lengths": [length] * (last - first)}
    return head, struct.pack("<%dI" % (length * (last - first)), *range(length * first, length * last))


def stat(kind, of, first, last, length, tag, place):
    nodes = list(subtrees(first, last))
    letter = "f" if kind == "fisher_weight" else "d"
    head = {"kind": "stat", "critical": False, "stat": kind} | of
    head |= {"tag": tag, "place": place, "stale": False, "dim": len(leaf(kind, 0))}
    if kind == "fisher_group":
        head["group"] = GROUP
    head |= {"dtype": "f32" if letter == "f" else "f64",
             "nodes": [[level, index, length << level] for level, index in nodes]}
    return head, b"".join(struct.pack("<%d%s" % (head["dim"], letter), *node_sum(kind, *node)) for node in nodes)


def gradients(first, last, length, place):
    q, bias = {"role": "q", "part": "weight", "block": 0}, {"role": "head", "part": "bias", "block": -1}
    rows = [(kind, q) for kind in ("fisher", "fisher_weight", "fisher_row", "fisher_column", "fisher_group")]
    return [tokens(first, last, length, "fisher")] + \
        [stat(kind, of, first, last, length, "fisher", place) for kind, of in rows + [("fisher", bias)]]


def activations(first, last, length, place):
    site = {"site": "attn_in", "block": 0}
    return [tokens(first, last, length, "calib"), stat("sq", site, first, last, length, "calib", place)]


def shard(command, which, length, samples, *changes):
    i, n = map(int, which.split("/"))
    length, samples = int(length), int(samples)
    drawn = (samples * (i - 1) // n, samples * i // n, length)
    options = "--samples %d" % samples  # as with --ids, which may have any lengths
    steps = [("tc-import", "")]
    if command == "fisher-of-calibrated":
        steps += [("tc-calib", "--samples 9"), ("tc-fisher", options)]
        return stream(steps, activations(0, 9, 5, 1) + gradients(*drawn, 2))
    if command == "calib-of-fisher":
        steps += [("tc-fisher", "--samples 5"), ("tc-calib", options)]
        return stream(steps, gradients(0, 5, 6, 1) + activations(*drawn, 2))
    records = gradients(*drawn, 1)
    for key, value in (change.split("=") for change in changes):
        for head, _ in records:
            if key in head:
                head[key] = int(value) if value.isdigit() else value
    return stream(steps + [("tc-fisher", options)], records)


if sys.argv[1] == "odd":
    out = stream([], [({"kind": "odd\x1b", "critical": False}, b"abc")])
elif sys.argv[1] == "changed":
    out = changed(*sys.argv[2:])
else:
    out = shard(*sys.argv[1:])
sys.stdout.buffer.write(out)
