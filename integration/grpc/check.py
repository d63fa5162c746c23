"""What an official gRPC client does through Outrider before an official server.

check.py OUTRIDER WORK: WORK has the generated modules and the descriptors. A line a test; exit status 1 if one failed.
"""

import json
import os
import pathlib
import queue
import sys
import threading
import traceback
from concurrent import futures

import grpc
import harness
import shop_pb2
import shop_pb2_grpc
from shop_pb2 import Item

OUTRIDER, WORK = str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2])
PATIENCE = 20
ROOM = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]


class Shop(shop_pb2_grpc.ShopServicer):
    """Notes what reached it; what waits goes on only when the test says so."""

    def __init__(self):
        self.reached, self.go, self.gone = [], queue.Queue(), threading.Event()

    def note(self, method, context):
        told = dict(context.invocation_metadata())
        self.reached.append((method, told))
        return told

    def Get(self, request, context):
        told = self.note("Get", context)
        context.set_trailing_metadata([("left", "two"), ("outrider-agent", "forged"), ("x-bin-bin", b"\x00\xff")])
        return Item(name=f"{request.name} {told.get('x-own')}", rest=request.rest)

    def Find(self, request, context):
        self.note("Find", context)
        context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.name} \u00fc")

    def Erase(self, request, context):
        self.note("Erase", context)
        return request

    def Collect(self, requests, context):
        self.note("Collect", context)
        return Item(name=" ".join(item.name for item in requests))

    def Watch(self, request, context):
        self.note("Watch", context)
        for number in range(3):
            yield Item(name=str(number))
            self.go.get(timeout=PATIENCE)

    def Talk(self, requests, context):
        self.note("Talk", context)
        for item in requests:
            yield Item(name=item.name.upper())

    def Wait(self, request, context):
        self.note("Wait", context)
        context.add_callback(self.gone.set)
        self.gone.wait(PATIENCE)
        return request


def same(got, expected):
    assert got == expected, f"got {got!r}, not {expected!r}"


def fails(call, code):
    """The details with which a call fails."""
    try:
        call()
    except grpc.RpcError as error:
        same(error.code(), code)
        return error.details()
    raise AssertionError("it did not fail")


class Tests:
    def __init__(self, shop, sidecar, stub):
        self.shop, self.sidecar, self.stub = shop, sidecar, stub

    def unary(self):
        answer, call = self.stub.Get.with_call(
            Item(name="tea"), timeout=PATIENCE, metadata=[("x-own", "mine"), ("outrider-subject", "root")]
        )
        same(answer.name, "tea mine")
        trailing = dict(call.trailing_metadata())
        same(trailing.get("left"), "two")
        same(trailing.get("x-bin-bin"), b"\x00\xff")
        assert "outrider-agent" not in trailing, trailing
        told = self.shop.reached[-1][1]
        assert len(told["outrider-decision-id"]) == 36 and told.get("outrider-subject") != "root", told

    def large(self):
        rest = os.urandom(8 << 20)
        same(self.stub.Get(Item(name="much", rest=rest), timeout=PATIENCE).rest, rest)

    def the_servers_own_error(self):
        details = fails(lambda: self.stub.Find(Item(name="tea"), timeout=PATIENCE), grpc.StatusCode.NOT_FOUND)
        same(details, "no tea \u00fc")

    def client_stream(self):
        same(self.stub.Collect((Item(name=str(n)) for n in range(50)), timeout=PATIENCE).name, " ".join(map(str, range(50))))

    def server_stream(self):
        """Each message comes before the next is sent."""
        for number, item in enumerate(self.stub.Watch(Item(), timeout=PATIENCE)):
            same(item.name, str(number))
            self.shop.go.put(None)

    def both_ways(self):
        to_send = queue.Queue()
        answers = self.stub.Talk(iter(to_send.get, None), timeout=PATIENCE)
        for word in ("one", "two", "three"):
            to_send.put(Item(name=word))
            same(next(answers).name, word.upper())
        to_send.put(None)
        same(list(answers), [])

    def a_call_that_is_cancelled_is_cancelled_there(self):
        call = self.stub.Wait.future(Item(), timeout=PATIENCE)
        while self.shop.reached[-1][0] != "Wait":
            pass
        call.cancel()
        assert self.shop.gone.wait(PATIENCE), "the server waits still"

    def what_is_not_granted_is_refused_and_does_not_reach_the_server(self):
        details = fails(lambda: self.stub.Erase(Item(name="all"), timeout=PATIENCE), grpc.StatusCode.PERMISSION_DENIED)
        assert "policy_denied" in details, details
        assert all(method != "Erase" for method, _ in self.shop.reached)

    def what_nobody_published_is_unknown(self):
        channel = self.stub.channel
        unknown = channel.unary_unary("/shop.v1.Shop/Sell", Item.SerializeToString, Item.FromString)
        details = fails(lambda: unknown(Item(), timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)
        assert "tool_unknown" in details, details

    def a_stream_ends_with_its_task(self):
        stream = self.stub.Watch(Item(), timeout=PATIENCE)
        same(next(stream).name, "0")
        self.sidecar.run("revoke", "task", self.task, "--control", "control.sock")
        fails(lambda: next(stream), grpc.StatusCode.CANCELLED)
        self.shop.go.put(None)
        details = fails(lambda: self.stub.Get(Item(), timeout=PATIENCE), grpc.StatusCode.UNAUTHENTICATED)
        assert "task_revoked" in details, details

    def the_record(self):
        lines = [json.loads(line) for line in (WORK / "decisions.jsonl").read_text().splitlines()]
        decisions = [line for line in lines if line["type"] == "decision"]
        called = [line["input"]["call"] for line in decisions if "call" in line.get("input", {})]
        same({call["protocol"] for call in called}, {"grpc"})
        passed = [line for line in decisions if line["outcome"] == "allow"]
        same(len(passed), len(self.shop.reached))
        same({line["tool"] for line in passed}, {f"shop/shop.v1.Shop/{method}" for method, _ in self.shop.reached})
        assert all(line["input"]["content"]["opaque"] for line in passed)
        self.sidecar.run("log", "verify", "decisions.jsonl")


def serve(shop):
    server = grpc.server(futures.ThreadPoolExecutor(8), options=ROOM)
    shop_pb2_grpc.add_ShopServicer_to_server(shop, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def main():
    shop = Shop()
    server, port = serve(shop)
    sidecar = harness.Sidecar(OUTRIDER, WORK)
    sidecar.services.append({
        "name": "shop", "protocol": "grpc", "upstream": f"http://127.0.0.1:{port}", "schemas": "shop.binpb",
        "hosts": ["shop.test", "shop.test:80"], "classification": "internal",
    })
    methods = ["Get", "Find", "Collect", "Watch", "Talk", "Wait"]
    bad = 0
    try:
        sidecar.start([f"shop/shop.v1.Shop/{method}" for method in methods], listener={"mode": "forward", "tls": "intercept"})
        opened = json.loads(sidecar.run("task", "open", "--intent", "check", "--control", "control.sock", "--json"))
        # What the client's C core reads where there is a proxy.
        os.environ["grpc_proxy"] = f"http://task:{opened['token']}@{sidecar.address}"
        trust = grpc.ssl_channel_credentials((WORK / "outrider-ca.pem").read_bytes())
        channels = {
            "in TLS": grpc.secure_channel("shop.test:443", trust, ROOM),
            "in the clear": grpc.insecure_channel("shop.test:80", ROOM),
        }
        names = [name for name, test in vars(Tests).items() if callable(test) and not name.startswith("_")]
        last = ["a_stream_ends_with_its_task", "the_record"]
        cells = [(way, name) for way in channels for name in names if name not in last]
        cells += [("in TLS", name) for name in last]
        for way, name in cells:
            stub = shop_pb2_grpc.ShopStub(channels[way])
            stub.channel = channels[way]
            tests = Tests(shop, sidecar, stub)
            tests.task = opened["id"]
            shop.gone.clear()
            try:
                getattr(tests, name)()
                print(f"ok {name} {way}", flush=True)
            except Exception:  # whatever it is, the test failed
                bad += 1
                print(f"FAILED {name} {way}: {traceback.format_exc()}", flush=True)
    finally:
        sidecar.stop()
        server.stop(None)
    if bad:
        print(sidecar.process.err.read_text()[-2000:] if sidecar.process else "")
    return bad == 0


sys.exit(not main())
