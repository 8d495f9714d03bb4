"""Serves functions in Python over HTTP, as a serverless platform would; the files are those of `python: {file: ..}`.

    python server.py quality.py cost.py --cold-start 2s --delay 50ms

    POST /quality   calls quality.py: a CloudEvent (binary or structured), a batch of them, or plain JSON
    GET /           what has been counted

A reference for what the engine sends and takes, not for production: behind a server of WSGI use `make_app`.
"""

import argparse
import importlib.util
import json
import logging
import re
import threading
import time
from pathlib import Path
from urllib.parse import unquote

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"
# Calls that are remembered, to count those that are made again.
SEEN_MAX = 100_000


class State(dict):
    """The properties of a twin by name; what else a call says (twin, type, update, times) are attributes."""


class Function:
    """A function that is started when it is called, and stopped when nobody has called for a while."""

    def __init__(self, path, cold_start, idle):
        self.path, self.cold_start, self.idle = path, cold_start, idle
        self.lock = threading.Lock()
        self.call, self.last = None, 0.0
        self.seen = {}
        self.counts = {"requests": 0, "calls": 0, "repeats": 0, "failures": 0, "starts": 0}

    def started(self):
        """The user's function; whoever comes while it starts waits as well."""
        with self.lock:
            if self.call is None or time.monotonic() - self.last > self.idle:
                time.sleep(self.cold_start)
                self.call = load(self.path)
                self.counts["starts"] += 1
            self.last = time.monotonic()
            return self.call

    def answer(self, call, event):
        """Calls it for one event; None where it fails, after saying why."""
        self.count(event)
        try:
            data = dict(event["data"])
            state = State(data.pop("properties"))
            state.__dict__.update(data)
            return call(state) or {}
        except Exception as error:  # Whatever the user's code raises is its failure, not the server's.
            with self.lock:
                self.counts["failures"] += 1
            print(f"{self.path.name}: {type(error).__name__}: {error}", flush=True)
            return None

    def count(self, event):
        """Calls are made at least once; the id of a call is the same each time."""
        with self.lock:
            self.counts["calls"] += 1
            if event.get("id") in self.seen:
                self.counts["repeats"] += 1
            elif "id" in event:
                self.seen[event["id"]] = None
                if len(self.seen) > SEEN_MAX:
                    del self.seen[next(iter(self.seen))]


def load(path):
    """`f` of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f


def events():
    """The events of a request, each a dict with its attributes and `data`."""
    body = request.get_json(force=True)
    if request.mimetype == MANY:
        return body
    if request.mimetype == ONE:
        return [body]
    # In binary mode the attributes are headers (HTTP protocol binding, 3.1.3); plain JSON has none.
    headers = ((name.lower(), value) for name, value in request.headers)
    attributes = {name[3:]: unquote(value) for name, value in headers if name.startswith("ce-")}
    return [{**attributes, "data": body}]


def enveloped(name, event, answer):
    """An answer as an event; its id tells of which call it is."""
    attributes = {"specversion": "1.0", "id": event["id"], "source": f"/functions/{name}", "type": "twinloom.answer"}
    return {**attributes, "datacontenttype": "application/json", "data": answer}


def make_app(paths, cold_start=0.0, idle=60.0, delay=0.0):
    """The server of these files. `delay` is added to each request, as a network would."""
    app = Flask(__name__)
    functions = {path.stem: Function(path, cold_start, idle) for path in paths}

    @app.post("/<name>")
    def call(name):
        function = functions.get(name)
        if function is None:
            return {"title": f"no function {name}"}, 404
        called = events()
        with function.lock:
            function.counts["requests"] += 1
        time.sleep(delay)
        started = function.started()
        answers = [(event, function.answer(started, event)) for event in called]
        good = [(event, answer) for event, answer in answers if answer is not None]
        if answers and not good:
            # Not 500, which would be tried again: the same call would fail once more.
            return {"title": "the function has failed"}, 422
        if request.mimetype == MANY:
            whole = [enveloped(name, event, answer) for event, answer in good]
            return Response(json.dumps(whole), content_type=MANY)
        event, answer = good[0]
        if request.mimetype == ONE:
            return Response(json.dumps(enveloped(name, event, answer)), content_type=ONE)
        return Response(json.dumps(answer), content_type="application/json")

    @app.get("/")
    def counts():
        return {name: function.counts for name, function in functions.items()}

    return app


def seconds(text):
    """A duration such as 2s or 50ms."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write for example 2s or 50ms")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Serves functions in Python over HTTP.")
    parser.add_argument("files", nargs="*", type=Path, default=[Path(__file__).with_name("quality.py")])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--cold-start", type=seconds, default=0.0, help="how long a stopped function takes to start")
    parser.add_argument("--idle", type=seconds, default=60.0, help="a function that nobody calls stops after this")
    parser.add_argument("--delay", type=seconds, default=0.0, help="added to each request")
    arguments = parser.parse_args()
    app = make_app(arguments.files, arguments.cold_start, arguments.idle, arguments.delay)
    # A line for each request would be a line for each update.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    names = ", ".join(f"/{path.stem}" for path in arguments.files)
    print(f"serving {names} on http://{arguments.host}:{arguments.port}", flush=True)
    # Connections are kept from request to request.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app.run(arguments.host, arguments.port, threaded=True)


if __name__ == "__main__":
    main()
