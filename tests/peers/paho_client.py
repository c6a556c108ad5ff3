"""Scenarios of Paho clients against a broker: `paho_client.py PORT SCENARIO [ARGUMENT...]`.

Each scenario is a function that talks to the broker as Paho's manual says and asserts what it heard. Prints `ok` at its end; anything else is a
failure. Every wait has a deadline.
"""

import queue
import ssl
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE_S = 20
HOST = "127.0.0.1"
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


def properties(kind, **values):
    made = Properties(kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Client:
    """One Paho client whose callbacks go into queues."""

    def __init__(self, version, name, port, clean=True, session_s=0, will=None, login=None, tls=None, connect=True, connect_properties=None,
                 manual_ack=False, keep_alive=60):
        self.version = VERSIONS[version]
        self.port, self.clean, self.keep_alive = port, clean, keep_alive
        self.messages, self.events = queue.Queue(), queue.Queue()
        arguments = {} if version == "5" else {"clean_session": clean}
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=self.version, reconnect_on_failure=False, manual_ack=manual_ack,
            **arguments
        )
        self.paho.max_inflight_messages_set(50)
        self.properties = connect_properties or Properties(PacketTypes.CONNECT)
        if version == "5" and session_s:
            self.properties.SessionExpiryInterval = session_s
        if will:
            self.paho.will_set(**will)
        if login:
            self.paho.username_pw_set(*login)
        if tls:
            self.paho.tls_set(**tls, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self.paho.on_connect = lambda c, u, flags, reason, p: self.events.put(("connected", flags, reason, p))
        self.paho.on_disconnect = lambda c, u, flags, reason, p: self.events.put(("disconnected", reason, p))
        self.paho.on_subscribe = lambda c, u, mid, reasons, p: self.events.put(("subscribed", mid, reasons, p))
        self.paho.on_unsubscribe = lambda c, u, mid, reasons, p: self.events.put(("unsubscribed", mid, reasons, p))
        self.paho.on_publish = lambda c, u, mid, reason, p: self.events.put(("published", mid, reason, p))
        self.paho.on_message = lambda c, u, message: self.messages.put(message)
        if connect:
            self.connect()

    def connect(self):
        arguments = {"clean_start": self.clean, "properties": self.properties} if self.version == mqtt.MQTTv5 else {}
        self.paho.connect(HOST, self.port, keepalive=self.keep_alive, **arguments)
        self.paho.loop_start()
        _, flags, reason, answer = self.wait("connected")
        self.session_present, self.reason, self.answer = flags.session_present, reason, answer
        return self

    def wait(self, kind):
        end = time.monotonic() + DEADLINE_S
        while True:
            event = self.events.get(timeout=max(0.01, end - time.monotonic()))
            if event[0] == kind:
                return event

    def subscribe(self, *arguments, **keywords):
        result, mid = self.paho.subscribe(*arguments, **keywords)
        assert result == mqtt.MQTT_ERR_SUCCESS, result
        event = self.wait("subscribed")
        assert event[1] == mid, (event, mid)
        return [reason.value for reason in event[2]]

    def unsubscribe(self, *arguments):
        self.paho.unsubscribe(*arguments)
        return self.wait("unsubscribed")

    def publish(self, topic, payload=b"", qos=0, **keywords):
        told = self.paho.publish(topic, payload, qos=qos, **keywords)
        told.wait_for_publish(DEADLINE_S)
        assert told.is_published(), f"no acknowledgement of {topic}"

    def next(self):
        return self.messages.get(timeout=DEADLINE_S)

    def nothing(self, marker):
        """Nothing is on its way: a message of our own comes first. Subscribes to it."""
        self.subscribe(marker, qos=1)
        self.publish(marker, b"marker", qos=1)
        message = self.next()
        assert message.topic == marker, f"unexpected {message.topic}: {message.payload!r}"

    def stop(self, **keywords):
        self.paho.disconnect(**keywords)
        self.wait("disconnected")
        self.paho.loop_stop()

    def crash(self):
        """Ends without DISCONNECT, as a client whose battery fell out."""
        self.paho.loop_stop()
        self.paho.socket().close()
        self.paho._sock = None


def matrix(port, version):
    """Delivered is the lower of publish and subscription, with each version against 3.1.1."""
    for wanted in range(3):
        reader = Client(version, f"reader{wanted}", port)
        assert reader.subscribe(f"m/{version}/{wanted}/#", qos=wanted) == [wanted]
        for other in ("3.1.1", version):
            writer = Client(other, f"writer{wanted}", port)
            for said in range(3):
                topic = f"m/{version}/{wanted}/{other}/{said}"
                writer.publish(topic, topic.encode(), qos=said)
                message = reader.next()
                assert (message.topic, message.payload) == (topic, topic.encode())
                assert message.qos == min(said, wanted), (message.qos, said, wanted)
                assert not message.retain
            writer.stop()
        reader.nothing(f"marker/{version}/{wanted}")
        reader.stop()


def sessions(port, version):
    """A client that is away misses nothing of QoS 1 and 2, in order; clean start forgets."""
    keep = {"clean": False, "session_s": 3600}
    name = f"away-{version}"
    reader = Client(version, name, port, **keep)
    assert not reader.session_present
    assert reader.subscribe([(f"s/{version}/1", 1), (f"s/{version}/2", 2)]) == [1, 2]
    reader.stop()
    writer = Client(version, "s-writer", port)
    for number in range(50):
        writer.publish(f"s/{version}/1", f"{number}".encode(), qos=1)
        writer.publish(f"s/{version}/2", f"{number}".encode(), qos=2)
    reader = Client(version, name, port, **keep)
    # CONNACK of 3.1 has no word for it.
    assert reader.session_present or version == "3.1"
    got = [reader.next() for _ in range(100)]
    for qos in (1, 2):
        numbers = [int(message.payload) for message in got if message.topic == f"s/{version}/{qos}"]
        assert numbers == list(range(50)), numbers
    reader.nothing(f"s/{version}/marker")
    reader.stop()
    reader = Client(version, name, port, clean=True)
    assert not reader.session_present
    writer.publish(f"s/{version}/1", b"nobody", qos=1)
    reader.nothing(f"s/{version}/marker")
    reader.stop()
    writer.stop()


def payloads(port, version, largest):
    """From nothing to the largest, and any legal topic."""
    reader = Client(version, "p-reader", port)
    reader.subscribe("p/#", qos=1)
    writer = Client(version, "p-writer", port)
    for size in (0, 1, 127, 128, 16_383, 16_384, int(largest)):
        for qos in range(3):
            payload = bytes(number % 251 for number in range(size))
            writer.publish("p/size", payload, qos=qos)
            message = reader.next()
            assert message.payload == payload, (size, qos, len(message.payload))
    for topic in ("p/größe/温度/🌡", "p//", "p/ with spaces /x", "p/$SYS/x", "p/" + "x" * 60_000):
        writer.publish(topic, b"x", qos=1)
        assert reader.next().topic == topic
    reader.stop()
    writer.stop()


def filters(port, version):
    """200 filters in one SUBSCRIBE, and away with them."""
    reader = Client(version, "f-reader", port)
    if version == "5":
        wishes = [(f"f/{n}/+", SubscribeOptions(qos=1)) for n in range(200)]
    else:
        wishes = [(f"f/{n}/+", 1) for n in range(200)]
    assert reader.subscribe(wishes) == [1] * 200
    writer = Client(version, "f-writer", port)
    for number in range(200):
        writer.publish(f"f/{number}/x", f"{number}".encode(), qos=1)
    assert sorted(int(reader.next().payload) for _ in range(200)) == list(range(200))
    reader.unsubscribe([f"f/{n}/+" for n in range(200)])
    for number in range(0, 200, 50):
        writer.publish(f"f/{number}/x", b"gone", qos=1)
    reader.nothing("f/marker")
    reader.stop()
    writer.stop()


def wills(port, version):
    """A will is published when its client vanishes, not when it says goodbye."""
    reader = Client(version, "w-reader", port)
    reader.subscribe("w/#", qos=1)
    for goodbye in (True, False):
        will = {"topic": f"w/{goodbye}", "payload": b"gone", "qos": 1, "retain": True}
        client = Client(version, "w-client", port, will=will)
        if goodbye:
            client.stop()
        else:
            client.crash()
            message = reader.next()
            assert (message.topic, message.payload, message.qos) == ("w/False", b"gone", 1)
    late = Client(version, "w-late", port)
    late.subscribe("w/#", qos=1)
    message = late.next()
    assert (message.topic, message.retain) == ("w/False", True)
    late.publish("w/False", b"", qos=1, retain=True)
    reader.stop()
    late.stop()


def retained(port, version):
    """Set, delivered at each subscribe with the lower QoS, cleared by an empty one."""
    writer = Client(version, "r-writer", port)
    writer.publish("r/a", b"one", qos=2, retain=True)
    reader = Client(version, "r-reader", port)
    for _ in range(2):
        reader.subscribe("r/+", qos=1)
        message = reader.next()
        assert (message.payload, message.qos, message.retain) == (b"one", 1, True)
    writer.publish("r/a", b"two", qos=1, retain=False)
    message = reader.next()
    assert (message.payload, message.retain) == (b"two", False)
    writer.publish("r/a", b"", qos=1, retain=True)
    assert reader.next().payload == b""
    late = Client(version, "r-late", port)
    late.subscribe("r/+", qos=1)
    late.nothing("r-marker")
    for client in (writer, reader, late):
        client.stop()


def takeover(port, version):
    """The second with a client id wins. Paho 2.1.0 hears the reason of a DISCONNECT of 5.0 only with properties behind it."""
    first = Client(version, "twin", port)
    second = Client(version, "twin", port)
    first.wait("disconnected")
    first.paho.loop_stop()
    second.nothing("t/marker")
    second.stop()


def options(port):
    """Subscription options of 5.0: no local, retain as published, retain handling, identifiers."""
    writer = Client("5", "o-writer", port)
    writer.publish("o/kept", b"kept", qos=1, retain=True)
    reader = Client("5", "o-reader", port)
    reader.subscribe("o/#", options=SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True, retainHandling=2),
                     properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=268_435_455))
    reader.publish("o/own", b"own", qos=1)
    writer.publish("o/live", b"live", qos=1, retain=True)
    message = reader.next()
    assert (message.topic, message.retain) == ("o/live", True), (message.topic, message.retain)
    assert message.properties.SubscriptionIdentifier == [268_435_455]
    # Retain handling 1: only for a subscription that did not exist.
    reader.subscribe("o/kept", options=SubscribeOptions(qos=1, retainHandling=1))
    assert reader.next().topic == "o/kept"
    reader.subscribe("o/kept", options=SubscribeOptions(qos=1, retainHandling=1))
    reader.nothing("o-marker")
    for topic in ("o/kept", "o/live"):
        writer.publish(topic, b"", qos=1, retain=True)
    reader.stop()
    writer.stop()


def requests(port):
    """Properties travel unchanged; a request is answered by its correlation."""
    server = Client("5", "q-server", port)
    server.subscribe("q/do", qos=1)
    client = Client("5", "q-client", port)
    client.subscribe("q/answers/client", qos=1)
    asked = properties(PacketTypes.PUBLISH, ResponseTopic="q/answers/client", CorrelationData=b"\x00\x01\xff", ContentType="text/plain",
                       PayloadFormatIndicator=1, MessageExpiryInterval=60)
    asked.UserProperty = [("a", "1"), ("ä", "2"), ("a", "3")]
    client.publish("q/do", "größe".encode(), qos=1, properties=asked)
    heard = server.next().properties
    assert heard.ResponseTopic == "q/answers/client" and heard.CorrelationData == b"\x00\x01\xff"
    assert heard.ContentType == "text/plain" and heard.PayloadFormatIndicator == 1
    assert heard.UserProperty == [("a", "1"), ("ä", "2"), ("a", "3")], heard.UserProperty
    assert 0 < heard.MessageExpiryInterval <= 60, heard.MessageExpiryInterval
    answer = properties(PacketTypes.PUBLISH, CorrelationData=heard.CorrelationData)
    server.publish(heard.ResponseTopic, b"done", qos=1, properties=answer)
    message = client.next()
    assert (message.payload, message.properties.CorrelationData) == (b"done", b"\x00\x01\xff")
    # A client of 3.1.1 beside them hears the payload and is not disturbed by properties.
    old = Client("3.1.1", "q-old", port)
    old.subscribe("q/#", qos=1)
    client.publish("q/do", b"again", qos=1, properties=asked)
    assert old.next().payload == b"again"
    server.next()
    for one in (server, client, old):
        one.stop()


def limits(port):
    """What a client of 5.0 says at CONNECT holds: receive maximum, packet size, topic aliases; and what it is told."""
    said = properties(PacketTypes.CONNECT, ReceiveMaximum=2, MaximumPacketSize=1000, TopicAliasMaximum=10)
    reader = Client("5", "l-reader", port, connect_properties=said, manual_ack=True)
    told = reader.answer
    assert told.ReceiveMaximum >= 1 if hasattr(told, "ReceiveMaximum") else True
    reader.subscribe("l/#", qos=1)
    writer = Client("5", "l-writer", port)
    writer.publish("l/large", b"x" * 2000, qos=1)
    for number in range(5):
        writer.publish("l/small", f"{number}".encode(), qos=1)
    first, second = reader.next(), reader.next()
    assert (first.payload, second.payload) == (b"0", b"1")
    try:
        third = reader.messages.get(timeout=0.5)
    except queue.Empty:
        third = None
    assert third is None, "a third message before an acknowledgement, with receive maximum 2"
    for message in (first, second):
        reader.paho.ack(message.mid, message.qos)
    for number in range(2, 5):
        message = reader.next()
        assert message.payload == f"{number}".encode()
        reader.paho.ack(message.mid, message.qos)
    # An alias of ours stands for its topic after the first use.
    alias = properties(PacketTypes.PUBLISH, TopicAlias=1)
    plain = Client("5", "l-plain", port)
    plain.subscribe("la/#", qos=1)
    writer.publish("la/topic", b"1", qos=1, properties=alias)
    assert plain.next().topic == "la/topic"
    writer.publish("", b"2", qos=1, properties=alias)
    message = plain.next()
    assert (message.topic, message.payload) == ("la/topic", b"2")
    nameless = Client("5", "", port)
    assert nameless.answer.AssignedClientIdentifier
    for client in (reader, writer, plain, nameless):
        client.stop()


def will_delay(port):
    """A will waits for its delay, and a client that is back in time keeps it to itself."""
    reader = Client("5", "d-reader", port)
    reader.subscribe("d/#", qos=1)
    will = {"topic": "d/gone", "payload": b"gone", "qos": 1,
            "properties": properties(PacketTypes.WILLMESSAGE, WillDelayInterval=1)}
    client = Client("5", "d-client", port, clean=False, session_s=60, will=will)
    client.crash()
    back = Client("5", "d-client", port, clean=False, session_s=60, will=will)
    assert back.session_present
    back.crash()
    start = time.monotonic()
    assert reader.next().topic == "d/gone"
    assert time.monotonic() - start > 0.8, "the will came before its delay was over"
    reader.nothing("d-marker")
    reader.stop()


def shared(port):
    """Members of a group share messages; each comes once, and others hear all."""
    members = [Client("5", f"g-{n}", port) for n in range(3)]
    for member in members:
        member.subscribe("$share/group/g/#", qos=1)
    other = Client("3.1.1", "g-other", port)
    other.subscribe("g/#", qos=1)
    writer = Client("3.1.1", "g-writer", port)
    for number in range(90):
        writer.publish("g/x", f"{number}".encode(), qos=1)
    assert [int(other.next().payload) for _ in range(90)] == list(range(90))
    end = time.monotonic() + DEADLINE_S
    while sum(member.messages.qsize() for member in members) < 90:
        assert time.monotonic() < end, [member.messages.qsize() for member in members]
        time.sleep(0.01)
    heard = [[int(member.next().payload) for _ in range(member.messages.qsize())] for member in members]
    assert sorted(sum(heard, [])) == list(range(90)), heard
    assert all(heard), f"a member without any message: {[len(each) for each in heard]}"
    for client in (*members, other, writer):
        client.stop()


def expiry(port):
    """A message that nobody fetched in time is gone, one without expiry stays."""
    reader = Client("5", "e-reader", port, clean=False, session_s=600)
    reader.subscribe("e/#", qos=1)
    reader.stop()
    writer = Client("5", "e-writer", port)
    writer.publish("e/short", b"short", qos=1, properties=properties(PacketTypes.PUBLISH, MessageExpiryInterval=1))
    writer.publish("e/long", b"long", qos=1, properties=properties(PacketTypes.PUBLISH, MessageExpiryInterval=600))
    writer.publish("e/ever", b"ever", qos=1)
    time.sleep(2.1)
    reader.connect()
    assert reader.session_present
    message = reader.next()
    assert message.topic == "e/long" and message.properties.MessageExpiryInterval <= 598, message.properties
    assert reader.next().topic == "e/ever"
    reader.stop(reasoncode=None, properties=properties(PacketTypes.DISCONNECT, SessionExpiryInterval=0))
    writer.stop()


def refused(port, version, user, password, code):
    """A log-in that must fail, with the code of the standard."""
    login = (user, password) if user else None
    client = Client(version, "intruder", port, login=login)
    assert client.reason.value == int(code), (client.reason, client.reason.value)


def rules(port, user, password):
    """What no rule allows is refused: 0x87 for a publish of 5.0, 0x80 or 0x87 for a subscription of which nothing is allowed; the connection stays."""
    client = Client("5", "plc1", port, login=(user, password))
    told = client.paho.publish("sensor/plc1/x", b"1", qos=1)
    assert client.wait("published")[2].value in (0, 0x10) and told
    client.paho.publish("sensor/plc2/x", b"1", qos=1)
    assert client.wait("published")[2].value == 0x87
    assert client.subscribe("cmd/plc1/#", qos=1) == [1]
    assert client.subscribe("cmd/#", qos=1) == [1], "a part of it is allowed"
    assert client.subscribe("secret/#", qos=1) == [0x87]
    client.stop()
    old = Client("3.1.1", "plc1", port, login=(user, password))
    assert old.subscribe("secret/#", qos=1) == [0x80]
    # 3.1.1 has no word for it: acknowledged, and given to nobody.
    old.publish("sensor/plc2/x", b"1", qos=1)
    old.stop()


SCENARIOS = {name: value for name, value in globals().items() if callable(value) and getattr(value, "__module__", "") == "__main__"}


def main():
    port, name, *arguments = sys.argv[1:]
    SCENARIOS[name](int(port), *arguments)
    print("ok", flush=True)


if __name__ == "__main__":
    main()
