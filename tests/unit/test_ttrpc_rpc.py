"""ttrpc's client and server with one another: unary, streams, deadlines, errors, bad frames, limits, shutdown."""

from __future__ import annotations

import _socket
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.ttrpc import protocol, server, unixsock, wire
from orlop.base.ttrpc.client import Client
from orlop.base.ttrpc.loop import Loop

SERVICE = "test.Echo"


class Text(wire.Message):
    text: str = ""
    _wire = (wire.string(1),)


class Blob(wire.Message):
    raw: bytes = b""
    _wire = (wire.data(1),)


class Running:
    """A server in a thread of its own; `do` runs something in it."""

    def __init__(self, path: str) -> None:
        self.loop = Loop()
        self.path = path
        self.parked: list[server.Call] = []
        self.cancelled = threading.Event()
        self.gone = threading.Event()
        self._todo: list[Callable[[], object]] = []
        self._wake = os.eventfd(0)
        self.loop.watch(self._wake, 1, lambda _: self._run_todo())
        method = server.Method
        self.server = server.Server(
            self.loop,
            {
                SERVICE: {
                    "Say": method(Text, lambda call, request: Text(f"{request.text}!")),
                    "Meta": method(Text, lambda call, request: Text(",".join(call.metadata.get(request.text, [])))),
                    "Deadline": method(Text, lambda call, request: Text(str(call.deadline is not None))),
                    "Fail": method(Text, self._fail),
                    "Break": method(Text, lambda call, request: 1 // 0),
                    "Park": method(Text, self._park),
                    "Big": method(Text, lambda call, request: Blob(bytes(int(request.text)))),
                    "Count": method(Text, self._count, server_streams=True),
                    "Join": method(Text, self._join, client_streams=True),
                    "Shout": method(Text, self._shout, client_streams=True, server_streams=True),
                }
            },
        )
        self.server.listen(unixsock.listen(path))
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def do(self, what: Callable[[], object]) -> None:
        self._todo.append(what)
        os.eventfd_write(self._wake, 1)

    def _run_todo(self) -> None:
        os.eventfd_read(self._wake)
        while self._todo:
            self._todo.pop(0)()

    def stop(self) -> None:
        self.do(self.server.close)
        self.do(self.loop.stop)
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.loop.close()
        os.close(self._wake)

    def _fail(self, call: server.Call, request: Text) -> None:
        raise errors.CommandNotFound(request.text, advice="look elsewhere")

    def _park(self, call: server.Call, request: Text) -> None:
        call.on_cancel = self.cancelled.set
        self.parked.append(call)

    def _count(self, call: server.Call, request: Text) -> None:
        for number in range(int(request.text)):
            call.send(Text(str(number)))
        call.end()

    def _join(self, call: server.Call, request: None) -> None:
        said: list[str] = []

        def take(message: Text | None) -> None:
            if message is None:
                call.reply(Text("+".join(said)))
            else:
                said.append(message.text)

        call.on_message = take

    def _shout(self, call: server.Call, request: None) -> None:
        def take(message: Text | None) -> None:
            if message is None:
                call.end()
            elif message.text == "stop":
                call.fail(errors.FailedPrecondition("stopped"))
            else:
                call.send(Text(message.text.upper()))

        call.on_message = take


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(str(tmp_path / "s"))
    yield one
    one.stop()


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client.connect(f"unix://{running.path}") as one:
        yield one


def say(client: Client, text: str) -> str:
    return client.call(SERVICE, "Say", Text(text), Text).text


def test_a_call_is_answered(client: Client) -> None:
    assert say(client, "hello") == "hello!"
    assert say(client, "") == "!"


def test_metadata_and_deadline_reach_the_handler(client: Client) -> None:
    metadata = {"Who": ["a", "b"]}
    assert client.call(SERVICE, "Meta", Text("who"), Text, metadata=metadata).text == "a,b"
    assert client.call(SERVICE, "Deadline", Text(), Text, cancel=Cancel(30)).text == "True"
    assert client.call(SERVICE, "Deadline", Text(), Text).text == "False"


def test_an_error_arrives_as_the_class_it_was(client: Client) -> None:
    with pytest.raises(errors.CommandNotFound, match="nope") as caught:
        client.call(SERVICE, "Fail", Text("nope"), Text)
    assert caught.value.advice == "look elsewhere"
    with pytest.raises(errors.OrlopError, match="ZeroDivisionError"):
        client.call(SERVICE, "Break", Text(), Text)
    assert say(client, "still here") == "still here!"


@pytest.mark.parametrize(("service", "method"), [("no.Such", "Say"), (SERVICE, "NoSuch")])
def test_an_unknown_service_or_method_is_unimplemented(client: Client, service: str, method: str) -> None:
    with pytest.raises(errors.Unimplemented):
        client.call(service, method, Text(), Text)


def test_a_late_answer_does_not_hold_up_other_calls(running: Running, client: Client) -> None:
    results: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(client.call(SERVICE, "Park", Text(), Text).text))
    waiting.start()
    assert say(client, "meanwhile") == "meanwhile!"
    while not running.parked:
        assert say(client, "x") == "x!"
    running.do(lambda: running.parked[0].reply(Text("late")))
    waiting.join(10)
    assert results == ["late"]


def test_many_threads_share_one_connection(client: Client) -> None:
    failures: list[object] = []

    def work(name: int) -> None:
        for number in range(40):
            text = f"{name}-{number}"
            if say(client, text) != f"{text}!":
                failures.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_the_deadline_ends_a_call_on_both_sides(running: Running, client: Client) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        client.call(SERVICE, "Park", Text(), Text, cancel=Cancel(0.05))
    assert running.cancelled.wait(10)
    running.do(lambda: running.parked[0].reply(Text("too late")))
    assert say(client, "next") == "next!"


def test_a_server_that_keeps_no_deadline_does_not_hold_the_caller() -> None:
    ours, theirs = socket.socketpair()
    client = Client(_socket.socket(fileno=ours.detach()))
    with theirs, client, pytest.raises(errors.DeadlineExceeded):
        client.call(SERVICE, "Say", Text(), Text, cancel=Cancel(0.05))


def test_cancelling_from_another_thread_ends_the_call_at_once(running: Running, client: Client) -> None:
    cancel = Cancel()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            client.call(SERVICE, "Park", Text(), Text, cancel=cancel)
        except errors.OrlopError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not running.parked:
        say(client, "x")
    cancel.cancel("enough")
    thread.join(10)
    assert [type(error) for error in caught] == [errors.Cancelled]
    assert say(client, "y") == "y!"


def test_a_client_that_goes_cancels_its_calls(running: Running) -> None:
    client = Client.connect(running.path)
    with pytest.raises(errors.DeadlineExceeded):
        client.call(SERVICE, "Park", Text(), Text, cancel=Cancel(0.05))
    running.cancelled.wait(10)
    running.cancelled.clear()
    threading.Thread(target=lambda: _quietly(client, "Park")).start()
    while len(running.parked) < 2:
        say(client, "x")
    client.close()
    assert running.cancelled.wait(10)


def _quietly(client: Client, method: str) -> None:
    try:
        client.call(SERVICE, method, Text(), Text)
    except errors.OrlopError:
        pass


def test_calls_end_with_unavailable_when_the_server_goes(running: Running, client: Client) -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            client.call(SERVICE, "Park", Text(), Text)
        except errors.OrlopError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not running.parked:
        say(client, "x")
    running.do(running.server.close)
    thread.join(10)
    assert [type(error) for error in caught] == [errors.Unavailable]
    with pytest.raises(errors.Unavailable):
        say(client, "z")
    client.wait_closed(Cancel(10))


def test_connecting_to_nothing_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="nothing"):
        Client.connect(f"unix://{tmp_path}/nothing")


def test_paths_longer_than_a_socket_name_work(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True)
    one = Running(str(deep / "s"))
    try:
        with Client.connect(one.path) as client:
            assert say(client, "deep") == "deep!"
        assert os.stat(one.path).st_mode & 0o777 == 0o600
    finally:
        one.stop()


def test_a_server_streams_in_order_to_its_end(client: Client) -> None:
    with client.stream(SERVICE, "Count", Text, Text("500")) as stream:
        found = []
        while (message := stream.receive()) is not None:
            found.append(int(message.text))
    assert found == list(range(500))
    assert stream.receive() is None


def test_a_client_streams_and_gets_one_answer(client: Client) -> None:
    with client.stream(SERVICE, "Join", Text) as stream:
        for text in ("a", "", "b"):
            stream.send(Text(text))
        assert stream.result().text == "a++b"
        with pytest.raises(errors.FailedPrecondition):
            stream.send(Text("more"))


def test_both_sides_stream_until_one_ends(client: Client) -> None:
    with client.stream(SERVICE, "Shout", Text) as stream:
        for text in ("one", "two"):
            stream.send(Text(text))
            answer = stream.receive()
            assert answer is not None
            assert answer.text == text.upper()
        stream.close_send()
        stream.close_send()
        assert stream.receive() is None
    with client.stream(SERVICE, "Shout", Text) as stream:
        stream.send(Text("stop"))
        with pytest.raises(errors.FailedPrecondition, match="stopped"):
            stream.receive()


def test_a_stream_that_nobody_reads_fills_up_and_both_sides_go_on(client: Client) -> None:
    """Both directions are stuffed: the sender must take in what comes, or each would wait for the other."""
    big = "x" * 100_000
    with client.stream(SERVICE, "Shout", Text) as stream:
        for _ in range(200):
            stream.send(Text(big))
        stream.close_send()
        count = 0
        while (message := stream.receive()) is not None:
            assert len(message.text) == len(big)
            count += 1
    assert count == 200


def test_messages_at_the_limit_pass_and_over_it_are_refused(client: Client) -> None:
    size = protocol.MAX_DATA_BYTES - 100
    assert len(client.call(SERVICE, "Big", Text(str(size)), Blob).raw) == size
    with pytest.raises(errors.ResourceExhausted):
        client.call(SERVICE, "Big", Text(str(protocol.MAX_DATA_BYTES)), Blob)
    with pytest.raises(errors.ResourceExhausted):
        say(client, "x" * protocol.MAX_DATA_BYTES)
    assert say(client, "still") == "still!"


# ---------------------------------------------------------------------- bad frames, by hand


class Raw:
    """A client that sends what it likes."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(path)
        self.deframer = protocol.Deframer()
        self.frames: list[protocol.Frame] = []

    def request(self, stream: int, method: str = "Say", *, flags: int = 0, service: str = SERVICE) -> None:
        envelope = protocol.Request(service, method, Text("raw").encode()).encode()
        self.sock.sendall(protocol.encode_frame(stream, protocol.REQUEST, flags, envelope))

    def answer(self) -> tuple[int, protocol.Response]:
        while not self.frames:
            chunk = self.sock.recv(65536)
            assert chunk, "the server closed the connection"
            self.frames += self.deframer.feed(chunk)
        frame = self.frames.pop(0)
        assert frame.data is not None
        return frame.stream, protocol.Response.decode(frame.data)

    def code(self) -> int:
        status = self.answer()[1].status
        return status.code if status is not None else 0


@pytest.fixture
def raw(running: Running) -> Iterator[Raw]:
    one = Raw(running.path)
    yield one
    one.sock.close()


INVALID = errors.InvalidArgument.grpc_code


def test_stream_ids_must_be_odd_and_rise(raw: Raw) -> None:
    raw.request(2)
    assert raw.code() == INVALID
    raw.request(5)
    assert raw.code() == 0
    for stream in (5, 3):
        raw.request(stream)
        assert raw.code() == INVALID
    raw.request(7)
    assert raw.answer()[0] == 7


def test_a_request_that_is_no_message_costs_only_its_call(raw: Raw) -> None:
    raw.sock.sendall(protocol.encode_frame(1, protocol.REQUEST, 0, b"\xff\xff\xff"))
    assert raw.code() == INVALID
    envelope = protocol.Request(SERVICE, "Say", b"\x0a\xff").encode()
    raw.sock.sendall(protocol.encode_frame(3, protocol.REQUEST, 0, envelope))
    assert raw.code() == INVALID
    raw.request(5)
    assert raw.code() == 0


def test_an_oversized_request_is_refused_and_the_next_is_served(raw: Raw) -> None:
    length = protocol.MAX_DATA_BYTES + 1
    raw.sock.sendall(length.to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\1\0" + bytes(length))
    assert raw.code() == errors.ResourceExhausted.grpc_code
    raw.request(3)
    assert raw.code() == 0


def test_data_where_none_belongs_is_refused(raw: Raw) -> None:
    raw.sock.sendall(protocol.encode_frame(99, protocol.DATA, 0, b""))
    assert raw.code() == INVALID
    raw.request(101, "Park")
    raw.sock.sendall(protocol.encode_frame(101, protocol.DATA, 0, b""))
    assert raw.code() == INVALID


def test_frames_of_unknown_types_are_ignored(raw: Raw) -> None:
    raw.sock.sendall(protocol.encode_frame(1, 77, 0, b"later versions"))
    raw.request(1)
    assert raw.code() == 0


def test_no_ttrpc_at_all_is_hung_up_on(running: Running, client: Client) -> None:
    one = Raw(running.path)
    one.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert one.sock.recv(100) == b""
    one.sock.close()
    assert say(client, "others go on") == "others go on!"


def test_a_connection_may_have_a_bounded_number_of_calls(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CALLS", 3)
    for stream in (1, 3, 5):
        raw.request(stream, "Park")
    raw.request(7)
    stream, response = raw.answer()
    assert stream == 7
    assert response.status is not None
    assert response.status.code == errors.ResourceExhausted.grpc_code


def test_a_client_that_takes_no_answers_is_no_longer_read_from(
    running: Running, raw: Raw, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_BACKLOG_BYTES", 1 << 20)
    envelope = protocol.Request(SERVICE, "Big", Text("500000").encode()).encode()
    for number in range(50):
        raw.sock.sendall(protocol.encode_frame(2 * number + 1, protocol.REQUEST, 0, envelope))
    assert say(client, "others go on") == "others go on!"
    assert max(len(conn.out) for conn in running.server.connections) < 4 << 20
    for number in range(50):
        assert raw.answer()[0] == 2 * number + 1


def test_a_graceful_shutdown_lets_open_calls_finish(running: Running, client: Client) -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(client.call(SERVICE, "Park", Text(), Text).text))
    thread.start()
    while not running.parked:
        say(client, "x")
    running.do(lambda: running.server.shutdown(running.gone.set, grace=30))
    with pytest.raises(errors.Unavailable):
        Client.connect(running.path).call(SERVICE, "Say", Text(), Text)
    with pytest.raises(errors.Unavailable):
        say(client, "new calls are refused")
    assert not running.gone.is_set()
    running.do(lambda: running.parked[0].reply(Text("done")))
    thread.join(10)
    assert results == ["done"]
    assert running.gone.wait(10)


def test_a_graceful_shutdown_gives_up_after_its_grace(running: Running, client: Client) -> None:
    running.do(lambda: None)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            client.call(SERVICE, "Park", Text(), Text)
        except errors.OrlopError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not running.parked:
        say(client, "x")
    running.do(lambda: running.server.shutdown(running.gone.set, grace=0.05))
    assert running.gone.wait(10)
    thread.join(10)
    assert [type(error) for error in caught] == [errors.Unavailable]
