"""Runs `loadtest` against uvicorn and nginx, and compares what it says with what they are set to do.

    check.py LOADTEST NGINX CERTIFICATES
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

LOADTEST, NGINX, CERTIFICATES = sys.argv[1:4]
CERTIFICATES = Path(CERTIFICATES).resolve()
HERE = Path(__file__).resolve().parent

CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 4k;
    keepalive_requests 2;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate {certificates}/of-authority.pem;
        ssl_certificate_key {certificates}/key.pem;
        location /gateway/ {{
            proxy_pass http://127.0.0.1:{backend}/;
            proxy_buffering off;
        }}
        location /buffered/ {{
            proxy_pass http://127.0.0.1:{backend}/;
            proxy_buffers 8 64k;
            proxy_buffer_size 64k;
            proxy_http_version 1.1;
        }}
        location /down/ {{
            proxy_pass http://127.0.0.1:{closed}/;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command, port, **options):
    process = subprocess.Popen(command, **options)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                sys.exit(f"error: {command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def uvicorn(*options):
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with running([*command, "--log-level", "warning", *options], port, cwd=HERE):
        yield port


def load(url, *arguments, count=6):
    with tempfile.TemporaryDirectory() as out:
        command = [LOADTEST, "batch", "--model", "m", "--base-url", url, "--count", str(count)]
        command += ["--max-tokens", "5", "--json", "--out", out, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if not ran.stdout:
        sys.exit(f"error: no result: {ran.stderr}")
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def expect(what, is_so, result):
    if not is_so:
        del result["requests"][2:]
        sys.exit(f"error: {what}: {json.dumps(result, indent=1)}")
    print(f"holds: {what}")


def all_well(code, result):
    """Times can be longer than the application's, and never shorter."""
    summary = result["summary"]
    return (
        code == 0
        and summary["failed"] == 0
        and summary["output_tokens"] == 5 * summary["requests"]
        and summary["ttft_ms"]["p50"] >= 39
        and summary["e2e_ms"]["p50"] >= 39 + 4 * 19
    )


def one_failure(code, result):
    """The only reason for which requests failed."""
    [group] = result["summary"]["failures"]
    return group["failure"] if code == 1 else {}


with uvicorn("--timeout-keep-alive", "0") as port:
    code, result, _ = load(f"http://127.0.0.1:{port}")
    expect("uvicorn that keeps no connection: every request is answered", all_well(code, result), result)
    code, result, _ = load(f"http://127.0.0.1:{port}/none")
    failure = one_failure(code, result)
    expect("uvicorn's 404 is told in its words", failure["message"].endswith("404: Not Found"), result)

with uvicorn("--limit-concurrency", "3") as port:
    code, result, _ = load(f"http://127.0.0.1:{port}", "--parallel", "--workers", "8", count=16)
    failure = one_failure(code, result)
    told = "503: Service Unavailable" in failure["message"] and "--workers" in failure["advice"]
    expect("uvicorn's limit is told, with a way out", told, result)

with tempfile.TemporaryDirectory() as directory, uvicorn() as backend:
    plain, tls, closed = free_port(), free_port(), free_port()
    configuration = Path(directory) / "nginx.conf"
    values = {"directory": directory, "certificates": CERTIFICATES, "backend": backend}
    configuration.write_text(CONFIGURATION.format(plain=plain, tls=tls, closed=closed, **values))
    # Its warnings about what it may not do as this user are no part of the check.
    command = [NGINX, "-e", "stderr", "-p", directory, "-c", str(configuration)]
    with running(command, tls, stderr=subprocess.DEVNULL):
        authority = ["--ca", str(CERTIFICATES / "authority.pem")]
        code, result, _ = load(f"https://localhost:{tls}/gateway/v1", *authority, "--parallel", count=12)
        expect("nginx with https and an own authority, two requests a connection", all_well(code, result), result)
        handshakes = [request["tls_ms"] for request in result["requests"]]
        expect("half of them needed a handshake", sum(it is not None for it in handshakes) >= 6, result)
        expect("tokens come one by one", result["summary"]["itl_ms"]["p50"] >= 15, result)

        code, result, _ = load(f"https://localhost:{tls}/gateway", count=2)
        failure = one_failure(code, result)
        expect("an authority that is not trusted is told", "--ca" in failure["advice"], result)
        code, result, _ = load(f"http://localhost:{tls}/gateway", count=2)
        failure = one_failure(code, result)
        expect("plain HTTP to the port for https is told", "https://" in failure["advice"], result)

        code, result, _ = load(f"http://localhost:{plain}/buffered")
        together = any("came together" in note for note in result["notes"])
        ttft = result["summary"]["ttft_ms"]["p50"]
        expect("what nginx buffers comes late", code == 0 and ttft >= 39, result)
        expect("and is said to, if it comes at once", together == (result["summary"]["itl_ms"]["p50"] == 0), result)

        code, result, _ = load(f"http://localhost:{plain}/gateway", "--prompt", "long " * 2000, count=2)
        failure = one_failure(code, result)
        expect("nginx's limit of a body is told", "413" in failure["message"], result)
        code, result, _ = load(f"http://localhost:{plain}/down", count=2)
        failure = one_failure(code, result)
        expect("a server that is down behind nginx is told", "502" in failure["message"], result)
