// Node's official SDK as a client of the long connection; every step is one line of JSON on stdout.
//
// Environment: LARK_BASE_URL, APP_ID, APP_SECRET, TOAST (the text that a click is answered with), and LARKAUTH_SDK_NODE
// (the node_modules folder).

import { createRequire } from 'node:module';
import { join } from 'node:path';

const { env } = process;
const require = createRequire(join(env.LARKAUTH_SDK_NODE, 'sdk.js'));
const lark = require('@larksuiteoapi/node-sdk');

const step = (name, fields = {}) => process.stdout.write(`${JSON.stringify({ step: name, ...fields })}\n`);
const toStderr = (...parts) => console.error(...parts);

const client = new lark.WSClient({
  appId: env.APP_ID,
  appSecret: env.APP_SECRET,
  domain: env.LARK_BASE_URL,
  loggerLevel: lark.LoggerLevel.error,
  logger: { error: toStderr, warn: toStderr, info: toStderr, debug: toStderr, trace: toStderr },
  onReady: () => step('ready'),
  onError: (error) => step('error', { message: error.message }),
});

step('start');
client.start({
  eventDispatcher: new lark.EventDispatcher({}).register({
    'card.action.trigger': async (data) => {
      step('click', {
        event_id: data.event_id,
        open_id: data.operator.open_id,
        message_id: data.context.open_message_id,
        value: data.action.value,
      });
      return { toast: { type: 'success', content: env.TOAST } };
    },
  }),
});
