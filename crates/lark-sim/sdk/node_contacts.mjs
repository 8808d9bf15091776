// Node's official SDK reads contacts in one batch; the answer is one line of JSON on stdout.
//
// Environment: LARK_BASE_URL, APP_ID, APP_SECRET, USER_IDS (open ids, separated by spaces), and LARKAUTH_SDK_NODE
// (the node_modules folder).

import { createRequire } from 'node:module';
import { join } from 'node:path';

const { env } = process;
const require = createRequire(join(env.LARKAUTH_SDK_NODE, 'sdk.js'));
const lark = require('@larksuiteoapi/node-sdk');

const toStderr = (...parts) => console.error(...parts);
const client = new lark.Client({
  appId: env.APP_ID,
  appSecret: env.APP_SECRET,
  domain: env.LARK_BASE_URL,
  loggerLevel: lark.LoggerLevel.error,
  logger: { error: toStderr, warn: toStderr, info: toStderr, debug: toStderr, trace: toStderr },
});

const flags = ['is_frozen', 'is_resigned', 'is_activated', 'is_exited', 'is_unjoin'];
const params = { user_ids: env.USER_IDS.split(' '), user_id_type: 'open_id' };
const answer = await client.contact.v3.user
  .batch({ params })
  .catch((error) => error.response?.data ?? { code: -1, msg: error.message });
const people = Object.fromEntries(
  (answer.data?.items ?? []).map((person) => [
    person.open_id,
    { name: person.name, ...Object.fromEntries(flags.map((flag) => [flag, person.status[flag]])) },
  ]),
);
process.stdout.write(`${JSON.stringify({ step: 'contacts', code: answer.code, people })}\n`);
