// The mqtt package of npm against a broker: `mqtt_js_client.js URL VERSION [CA]`, over WebSocket (ws://, wss://) or TCP.
// Prints `ok` at its end; anything else is a failure. Every wait has a deadline.
'use strict';

const assert = require('assert');
const fs = require('fs');
const mqtt = require('mqtt');

const [url, version, ca] = process.argv.slice(2);
const DEADLINE_MS = 20000;
const protocol = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  5: { protocolVersion: 5 },
}[version];

const deadline = (what, promise) => {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

function connect(options) {
  const tls = ca ? { ca: fs.readFileSync(ca) } : {};
  const client = mqtt.connect(url, { ...protocol, ...tls, reconnectPeriod: 0, ...options });
  const arrived = [];
  let wake = () => {};
  client.on('message', (topic, payload, packet) => {
    arrived.push({ topic, payload, qos: packet.qos, retain: packet.retain, properties: packet.properties });
    wake();
  });
  client.next = () => deadline('message', (async () => {
    while (arrived.length === 0) await new Promise((done) => { wake = done; });
    return arrived.shift();
  })());
  return deadline('connection', new Promise((done, fail) => {
    client.once('connect', (packet) => { client.told = packet; done(client); });
    client.once('error', fail);
    client.once('close', () => fail(new Error('closed')));
  }));
}

async function main() {
  const reader = await connect({ clientId: 'js-reader' });
  const writer = await connect({ clientId: 'js-writer' });
  for (const qos of [0, 1, 2]) {
    const granted = await deadline('SUBACK', reader.subscribeAsync(`js/${qos}/#`, { qos }));
    assert.strictEqual(granted[0].qos, qos);
    for (const said of [0, 1, 2]) {
      // Across the boundaries of WebSocket frames and of their length fields.
      for (const size of [0, 1, 120, 126, 65535, 65536, 200000]) {
        const payload = Buffer.alloc(size, size % 251);
        await deadline('acknowledgement', writer.publishAsync(`js/${qos}/ä/${said}`, payload, { qos: said }));
        const message = await reader.next();
        assert.strictEqual(message.topic, `js/${qos}/ä/${said}`);
        assert.strictEqual(message.qos, Math.min(qos, said));
        assert.ok(message.payload.equals(payload), `${size} bytes`);
      }
    }
  }
  if (version === '5') {
    const properties = { contentType: 'a/b', userProperties: { k: ['1', '2'] }, correlationData: Buffer.from([0, 255]) };
    await deadline('acknowledgement', writer.publishAsync('js/1/p', 'x', { qos: 1, properties }));
    const message = await reader.next();
    assert.strictEqual(message.properties.contentType, 'a/b');
    assert.deepStrictEqual({ ...message.properties.userProperties }, { k: ['1', '2'] });
    assert.ok(message.properties.correlationData.equals(properties.correlationData));
  }
  // Many at once: packets share frames.
  await Promise.all(Array.from({ length: 500 }, (_, n) => deadline('acknowledgement', writer.publishAsync('js/1/n', `${n}`, { qos: 1 }))));
  for (let n = 0; n < 500; n += 1) assert.strictEqual((await reader.next()).payload.toString(), `${n}`);
  await deadline('end', Promise.all([reader.endAsync(), writer.endAsync()]));
  console.log('ok');
}

main().then(() => process.exit(0), (fault) => { console.error(fault); process.exit(1); });
