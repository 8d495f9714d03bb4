"""Runs a user's function for the engine, in a process of its own. Python 3.9 or newer, no packages.

    fd 0   channel   frames of calls come in; one byte goes out when the engine should look
    fd 1   answers   a record for each call, in their order, written as soon as the call is over
    fd 2   output    what the user's code prints, to either of its streams

Answers are written without waking the engine, as that costs more than a small call; it is told when a frame
is done, or now and then. As each answer is in the pipe before the next call begins, the engine knows which
call a process died of. `frame.rs` has the other half.
"""

import sys

# What is imported must not depend on where the engine was started; PYTHONPATH is how to add folders.
sys.path[:] = [folder for folder in sys.path if folder]

import json
import os
import resource
import struct
import time

PYTHON_MIN = (3, 9)
# How a record begins: what it is, and the bytes that follow.
RECORD = struct.Struct("<BI")
READY, REFUSED, VALUE, ERROR, TOO_LARGE, MEMORY, EXPIRED = range(7)
# How long answers may lie without the engine being told.
TELL_EVERY = 0.001
MESSAGE_MAX = 500
MODULE = "twinloom_function"
# Flags of code objects.
VARIADIC, GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x04, 0x20, 0x80, 0x200

decode = json.JSONDecoder().decode
encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


class Refused(Exception):
    """The user's source is not what it must be."""


class State(dict):
    """The properties of a twin by name; what else a call says (twin, type, update, times) are attributes."""


def main():
    die_with_the_engine()
    channel, answers = take_descriptors()
    setup = json.loads(read_frame(channel))
    try:
        function = load(setup)
        ready = record(READY, b"")
    except BaseException as error:
        function = None
        ready = record(REFUSED, json.dumps(reason(error, setup["name"])).encode())
    put(answers, channel, ready)
    os.write(channel, b"!")
    if function is not None:
        serve(function, setup, channel, answers)


def die_with_the_engine():
    """For a call that never looks at the channel; where this cannot be had, the channel's end is the way."""
    try:
        import ctypes

        pr_set_pdeathsig, sigkill = 1, 9
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, sigkill)
    except Exception:
        pass


def take_descriptors():
    """Keeps the engine's descriptors apart from those that the user's code knows."""
    channel, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    os.set_blocking(answers, False)
    return channel, answers


def load(setup):
    """The user's function."""
    if sys.version_info < PYTHON_MIN:
        raise Refused("this is Python %d.%d; use 3.9 or newer" % sys.version_info[:2])
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_DATA, setup["memory"])
    # A module as any other, as some libraries look theirs up.
    module = type(sys)(MODULE)
    module.__file__ = setup["name"]
    sys.modules[MODULE] = module
    code = compile(setup["source"], setup["name"], "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return choose(module)


def limit(what, most):
    """Lowers a limit of this process for good."""
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def choose(module):
    """`f`, or the only public function."""
    kind = type(choose)
    function = getattr(module, "f", None)
    name = "f"
    if function is None:
        public = [
            name
            for name, value in vars(module).items()
            if isinstance(value, kind) and value.__module__ == MODULE and not name.startswith("_")
        ]
        if not public:
            raise Refused("it has no function; write `def f(state): return {...}`")
        if len(public) > 1:
            raise Refused("it has several functions (%s); call the one that is meant `f`" % ", ".join(public))
        name = public[0]
        function = getattr(module, name)
    if not callable(function):
        raise Refused("`f` is no function; write `def f(state): return {...}`")
    if isinstance(function, kind):
        check_form(name, function)
    return function


def check_form(name, function):
    """A function that can be called with a state."""
    code, line = function.__code__, function.__code__.co_firstlineno
    if code.co_flags & (GENERATOR | COROUTINE | ASYNC_GENERATOR):
        raise Refused("`%s` is async or yields; write a plain `def` that returns a dict" % name, line)
    required = code.co_argcount - len(function.__defaults__ or ())
    named = code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    if required > 1 or named > 0 or not (code.co_argcount or code.co_flags & VARIADIC):
        raise Refused("`%s` must take one argument; write `def %s(state):`" % (name, name), line)


def reason(error, file):
    """Why the source is refused, where in it, and what kind of trouble it is."""
    if isinstance(error, Refused):
        return {"message": error.args[0], "line": (error.args + (None,))[1]}
    if isinstance(error, SyntaxError) and error.filename == file:
        return {"message": type(error).__name__ + ": " + error.msg, "line": error.lineno, "column": error.offset}
    message, line = describe(error, file)
    is_import = isinstance(error, ImportError)
    return {"message": message, "line": line, "is_import": is_import, "is_memory": isinstance(error, MemoryError)}


def describe(error, file):
    """The last line of a traceback, and the innermost line of the user's file that it names."""
    try:
        text = " ".join(str(error).split())
    except BaseException:
        text = ""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    name = type(error).__qualname__
    return (name + ": " + text if text else name)[:MESSAGE_MAX], line


def serve(function, setup, channel, answers):
    """Works on frames until the engine is gone."""
    file, answer_max = setup["name"], setup["output_max"]
    monotonic = time.monotonic
    while True:
        frame = read_frame(channel)
        told = received = now = monotonic()
        (count,) = struct.unpack_from("<I", frame)
        # Of each call the milliseconds that it has left, and its bytes.
        calls = struct.unpack_from("<%dI" % (2 * count), frame, 4)
        at = 4 + 8 * count
        for index in range(count):
            left_ms, length = calls[2 * index], calls[2 * index + 1]
            if (now - received) * 1000 > left_ms:
                outcome, text = EXPIRED, b""
            else:
                outcome, text = work(function, frame[at : at + length], file, answer_max)
            at += length
            put(answers, channel, record(outcome, text))
            now = monotonic()
            if index + 1 == count or now - told >= TELL_EVERY or outcome == MEMORY:
                os.write(channel, b"!")
                told = now
            if outcome == MEMORY:
                # What it had may not come back to the system; a new process has all of it.
                os._exit(1)


def state_of(body):
    """What a function is given: the properties, where the call has such."""
    properties = body.pop("properties", None)
    if not isinstance(properties, dict):
        return body
    state = State(properties)
    state.__dict__.update(body)
    return state


def work(function, body, file, answer_max):
    """One call."""
    try:
        result = function(state_of(decode(str(body, "utf-8"))))
    except MemoryError:
        return MEMORY, b""
    except BaseException as error:
        return ERROR, place(*describe(error, file))
    if result is None:
        return VALUE, b"{}"
    if not isinstance(result, dict):
        return ERROR, b"it returned %s; return a dict, or None for nothing" % type(result).__name__.encode()
    try:
        text = encode(result).encode()
    except MemoryError:
        return MEMORY, b""
    except BaseException as error:
        return ERROR, place("what it returned cannot be written as JSON: " + describe(error, file)[0], None)
    if len(text) > answer_max:
        return TOO_LARGE, b"%d" % len(text)
    return VALUE, text


def place(message, line):
    if line is not None:
        message += " (line %d)" % line
    return message.encode("utf-8", "replace")


def record(outcome, text):
    return RECORD.pack(outcome, len(text)) + text


def put(answers, channel, whole):
    """Writes a record. Where the pipe is full the engine is told, and this waits for it."""
    try:
        written = os.write(answers, whole)
    except BlockingIOError:
        written = 0
    if written < len(whole):
        os.write(channel, b"!")
        os.set_blocking(answers, True)
        rest = memoryview(whole)[written:]
        while rest:
            rest = rest[os.write(answers, rest) :]
        os.set_blocking(answers, False)


def read_frame(channel):
    """The next frame without its length. There is never more than one on the way."""
    frame = read(channel, 65536)
    while len(frame) < 4:
        frame += read(channel, 4 - len(frame))
    length = 4 + int.from_bytes(frame[:4], "little")
    if len(frame) < length:
        parts, missing = [frame], length - len(frame)
        while missing:
            parts.append(read(channel, min(missing, 1 << 20)))
            missing -= len(parts[-1])
        frame = b"".join(parts)
    return frame[4:]


def read(channel, size):
    part = os.read(channel, size)
    if not part:
        # The engine has closed it, or is gone. Threads of the user's must not hold the process.
        os._exit(0)
    return part


main()
