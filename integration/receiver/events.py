"""What an identity provider says of a session, and how soon its streams are over."""

import base64
import json
import secrets
import signal
import statistics
import sys
import threading
import time

from rig import Open, Redis, Sidecar, Upstream, directory, receiver, require, until
from transmitter import Authority, Stream, Transmitter

BOUND = 1.0  # seconds from the acknowledgement to the end of the stream


def measure(name, sidecars, trials, revoke):
    """`revoke(subject)` returns when it was acknowledged, or handed out."""
    took = []
    for trial in range(trials):
        sidecar, subject = sidecars[trial % len(sidecars)], f"{name}-{trial}@example.org"
        token = sidecar.task(subject)
        stream = Open(sidecar, token)
        since = revoke(subject)
        took.append(max(0.0, stream.end() - since))
        status, code = sidecar.call(token)
        require((status, code) == (401, "task_revoked"), f"{name}: the next call is {status} {code}")
    took.sort()
    at = lambda part: took[min(len(took) - 1, int(part * len(took)))]
    print(f"{name}: {trials} streams ended p50 {statistics.median(took):.4f} p99 {at(.99):.4f} max {took[-1]:.4f} s after it")
    require(took[-1] < BOUND, f"{name}: a stream went on for {took[-1]:.3f} s")


def pushed(push, address):
    def revoke(subject):
        status, err, at = push.deliver(address, push.sign(push.claims(subject)))
        require(status == 202, f"push: {status} {err}")
        return at
    return revoke


def polled(poll, stream):
    def revoke(subject):
        claims = poll.claims(subject)
        jti = claims["jti"]
        stream.tell(jti, poll.sign(claims))
        require(stream.wait(lambda: jti in stream.acknowledged), "poll: no acknowledgement")
        return stream.handed[jti]
    return revoke


def forged(push, poll, stream, address, sidecar):
    """Nothing of it reaches a sidecar; each is refused in the words of the standard."""
    token = sidecar.task("alice@example.org")
    stream_of_alice = Open(sidecar, token)
    claims = lambda **more: {**push.claims("alice@example.org"), **more}
    without = lambda name: {key: value for key, value in claims().items() if key != name}
    other = Transmitter(push.issuer, push.bearer, push.trust)
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    bare = f"{part({'alg': 'none', 'kid': '1', 'typ': 'secevent+jwt'})}.{part(claims())}."
    now = int(time.time())
    cases = [
        ("another audience", push.sign(claims(aud="https://other.example.org")), 400, "invalid_audience"),
        ("another issuer", push.sign(claims(iss="https://other.example.org")), 400, "invalid_issuer"),
        ("another's stream", poll.sign(poll.claims("alice@example.org")), 400, "invalid_issuer"),
        ("another type", push.sign(claims(), typ="JWT"), 400, "invalid_request"),
        ("another's signature", other.sign(claims()), 400, "invalid_key"),
        ("no signature", bare, 400, "invalid_key"),
        ("a shared secret", push.sign(claims(), key=secrets.token_bytes(32), algorithm="HS256"), 400, "invalid_key"),
        ("an expiry", push.sign(claims(exp=now + 60)), 400, "invalid_request"),
        ("a subject claim", push.sign(claims(sub="alice@example.org")), 400, "invalid_request"),
        ("no subject", push.sign(without("sub_id")), 400, "invalid_request"),
        ("no ID", push.sign(without("jti")), 400, "invalid_request"),
        ("no events", push.sign(claims(events={})), 400, "invalid_request"),
        ("another time", push.sign(claims(iat=now + 3600)), 400, "invalid_request"),
        ("a device", push.sign(claims(sub_id={"format": "complex", "device": {"format": "opaque", "id": "d"}})), 400, "invalid_request"),
        ("too much", "x" * (64 * 1024 + 1), 413, "invalid_request"),
    ]
    for name, body, status, err in cases:
        got = push.deliver(address, body)[:2]
        require(got == (status, err), f"{name}: {got}")
    got = push.deliver(address, push.sign(claims()), Authorization="Bearer " + "0" * 64)[:2]
    require(got == (401, "authentication_failed"), f"another bearer token: {got}")
    imposter = Transmitter(poll.issuer, poll.bearer)
    fetched = {"forged": (imposter, {"jti": "forged"}, "invalid_key"), "renamed": (poll, {}, "invalid_request"),
               "device": (poll, {"jti": "device", "sub_id": {"format": "opaque"}}, "invalid_request")}
    for name, (by, more, err) in fetched.items():
        stream.tell(name, by.sign({**poll.claims("alice@example.org"), **more}))
        require(stream.wait(lambda: name in stream.refused), f"{name}: no answer")
        require(stream.refused[name] == err and name not in stream.acknowledged, f"{name}: {stream.refused[name]}")
    require(sidecar.call(token)[0] == 200, "a forged token revoked something")
    require(stream_of_alice.ended is None, "a forged token cut a stream")
    stream_of_alice.socket.shutdown(2)
    print(f"forged: {len(cases) + len(fetched) + 1} refused, nothing revoked")


def repeated(push, receivers, sidecar):
    """A token counts once, also after a restart: what was lifted since stays lifted."""
    token = push.sign(push.claims("bob@example.org"))
    deliver = lambda: push.deliver(receivers[0].said["listening"], token)[0]
    require(deliver() == 202, "bob")
    until("the fleet", lambda: "bob@example.org" in sidecar.run("revoke", "list").stdout)
    lifted = sidecar.run("revoke", "lift", "subject", "bob@example.org")
    require(lifted.returncode == 0, lifted.stderr)
    for how in [None, signal.SIGTERM, signal.SIGKILL]:
        if how:
            receivers[0].restart(how)
        require(deliver() == 202, f"repeated after {how}")
        require("bob@example.org" not in sidecar.run("revoke", "list").stdout, f"a token counts again after {how}")
    print("repeated: acknowledged, and counts once, over a restart and a crash")


def away(push, poll, stream, receivers, redis, sidecar):
    """While Redis is away nothing is acknowledged; what is delivered again later counts."""
    claims = push.claims("carol@example.org")
    fetched = poll.claims("dave@example.org")
    tokens = {name: sidecar.task(f"{name}@example.org") for name in ["carol", "dave"]}
    for name, stop, go_on in [("paused", lambda: redis.signal(signal.SIGSTOP), lambda: redis.signal(signal.SIGCONT)),
                              ("killed", redis.kill, redis.start)]:
        stop()
        status = push.deliver(receivers[0].said["listening"], push.sign(claims))[0]
        require(status == 503, f"{name}: {status}")
        if name == "paused":
            stream.tell(fetched["jti"], poll.sign(fetched))
            time.sleep(1)
            require(fetched["jti"] not in stream.acknowledged, "acknowledged while Redis is paused")
        go_on()
        until("recovery", lambda: receivers[0].get("/readyz")[0] == 200 and sidecar.get("/readyz")[0] == 200)
    require(push.deliver(receivers[0].said["listening"], push.sign(claims))[0] == 202, "delivered again")
    require(stream.wait(lambda: fetched["jti"] in stream.acknowledged), "never fetched again")
    for name, token in tokens.items():
        until(f"{name} to be refused", lambda: sidecar.call(token) == (401, "task_revoked"))
    print("away: 503 and no acknowledgement while Redis is paused or killed; delivered again, it counts")


def two(push, poll, stream, receivers, sidecar):
    """Two receivers, each token to both at once: it is dealt with once."""
    before = sum(len(revoked(each)) for each in receivers)
    made, statuses = [], []
    for number in range(50):
        claims = push.claims(f"both-{number}@example.org")
        made.append(push.sign(claims))
    def deliver(address):
        statuses.extend(push.deliver(address, token)[0] for token in made)
    threads = [threading.Thread(target=deliver, args=[each.said["listening"]]) for each in receivers for _ in range(2)]
    for thread in threads:
        thread.start()
    fetched = [poll.claims(f"fetched-{number}@example.org") for number in range(50)]
    for claims in fetched:
        stream.tell(claims["jti"], poll.sign(claims))
    for thread in threads:
        thread.join()
    require(set(statuses) == {202}, f"both: {sorted(set(statuses))}")
    require(stream.wait(lambda: all(claims["jti"] in stream.acknowledged for claims in fetched)), "both: not fetched")
    count = sum(len(revoked(each)) for each in receivers) - before
    require(count == 100, f"both: 100 tokens are {count} revocations")
    listed = until("the fleet", lambda: (text := sidecar.run("revoke", "list").stdout).count("fetched-") == 50 and text)
    require(listed.count("both-") == 50, "both: the sidecar does not know all")
    print(f"both: {len(statuses)} deliveries and two pollers of 100 tokens, 100 revocations")


def revoked(receiver_):
    return [line for line in receiver_.log() if line["type"] == "revoked"]


def main():
    binary, redis_binary, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
    upstream, redis = Upstream(), Redis(redis_binary)
    sidecars = [Sidecar(binary, upstream, redis) for _ in range(2)]
    authority = Authority(directory("authority"))
    push = Transmitter("https://push.example.org", secrets.token_hex(32), authority.client)
    poll = Transmitter("https://poll.example.org", secrets.token_hex(32))
    stream = Stream(poll.bearer, poll.keys(), authority)
    receivers = [receiver(binary, redis, authority, push, poll, stream)]
    address = receivers[0].said["listening"]
    measure("push", sidecars, trials, pushed(push, address))
    measure("poll", sidecars, trials, polled(poll, stream))
    forged(push, poll, stream, address, sidecars[0])
    repeated(push, receivers, sidecars[1])
    away(push, poll, stream, receivers, redis, sidecars[1])
    receivers.append(receiver(binary, redis, authority, push, poll, stream))
    two(push, poll, stream, receivers, sidecars[0])
    for each in [*sidecars, *receivers]:
        require(each.process.poll() is None, f"{each.command} has ended: {(each.home / 'stderr.txt').read_text()}")
    print("all as it should be")


if __name__ == "__main__":
    main()
