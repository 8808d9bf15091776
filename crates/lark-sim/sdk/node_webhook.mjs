// A bot behind the HTTP handler of Node's official SDK; every step is one line of JSON on stdout.
//
// Environment: VERIFICATION_TOKEN, ENCRYPT_KEY (either may be empty), TOAST (the text that a click is answered with), and
// LARKAUTH_SDK_NODE (the node_modules folder).

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { env } = process;
const require = createRequire(join(env.LARKAUTH_SDK_NODE, 'sdk.js'));
const lark = require('@larksuiteoapi/node-sdk');

const step = (name, fields = {}) => process.stdout.write(`${JSON.stringify({ step: name, ...fields })}\n`);
const toStderr = (...parts) => console.error(...parts);

const dispatcher = new lark.EventDispatcher({
  encryptKey: env.ENCRYPT_KEY,
  verificationToken: env.VERIFICATION_TOKEN,
  loggerLevel: lark.LoggerLevel.error,
  logger: { error: toStderr, warn: toStderr, info: toStderr, debug: toStderr, trace: toStderr },
}).register({
  'im.message.receive_v1': async (data) => {
    step('message', { event_id: data.event_id, content: data.message.content });
  },
  'card.action.trigger': async (data) => {
    step('click', { open_id: data.operator.open_id, value: data.action.value });
    return { toast: { type: 'success', content: env.TOAST } };
  },
});

const server = createServer(lark.adaptDefault('/webhook', dispatcher));
server.listen(0, '127.0.0.1', () => step('listening', { port: server.address().port }));
