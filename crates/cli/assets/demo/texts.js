// The texts of the page in both languages, and the titles of the timeline.

export const texts = {
  tagline: ["演示：除了 Lark 是模拟的，其余都是真的", "demo: Lark is simulated, everything else is real"],
  theme: ["浅色或深色", "light or dark"],
  close: ["关闭", "close"],
  browser: ["手机浏览器", "the phone's browser"],
  other_language: ["English", "中文"],
  ask_title: ["一个服务请求授权", "A service asks for consent"],
  ask_who: ["向谁", "Person"],
  ask_card: ["卡片", "Card"],
  card_detailed: ["详细", "detailed"],
  card_concise: ["简洁", "concise"],
  card_message: ["附一句话", "with message"],
  ask_message: ["想说的话", "Message"],
  message_example: ["用于生成你的周报。", "For your weekly report."],
  ask: ["请求授权", "Ask for consent"],
  read_token: ["读取令牌", "Read the token"],
  bot: ["机器人", "bot"],
  phone_of: [" 的手机", "’s phone"],
  empty: ["还没有消息。点“请求授权”，卡片就会出现在这里。", "No messages yet. Press “Ask for consent” and the card appears here."],
  break_title: ["制造故障", "Inject a fault"],
  repair: ["全部恢复", "Clear all faults"],
  inside_title: ["内部过程", "What happens inside"],
  inside_empty: ["在左边操作后，这里显示内部过程。", "Click on the phone to see the steps here."],
  clear: ["清空", "Clear"],
  tab_chat: ["聊天", "Chat"],
  tab_inside: ["内部", "Inside"],
  tab_break: ["故障", "Faults"],
  connecting: ["正在连接…", "connecting…"],
  ready: ["一切正常", "ready"],
  not_ready: ["有部分不可用", "not ready"],
  gone: ["演示已停止", "the demo has stopped"],
  part_websocket: ["长连接", "long connection"],
  part_registrations: ["应用", "applications"],
  part_database: ["数据库", "database"],
  part_database_writes: ["数据库写入", "database writes"],
  part_bus: ["消息总线", "bus"],
  dead_letters: ["死信", "dead letters"],
  connections: ["连接数", "connections"],
  click_failed: ["操作失败，请稍后再试", "The click failed, please try again later"],
  no_answer: ["没有回应", "no answer"],
  expires_in: ["有效期还剩", "valid for another"],
  expired: ["已过期", "expired"],
  by_hand: ["手动读取：", "By hand:"],
  copy: ["复制", "Copy"],
  copied: ["已复制", "Copied"],
  lark_down: ["Lark 宕机", "Lark is down"],
  slow_lark: ["Lark 变慢 (2.5 秒)", "Lark is slow (2.5 s)"],
  rate_limited: ["一阵 429", "a burst of 429s"],
  lost_answer: ["丢失令牌应答", "lose the token’s answer"],
  cut_connection: ["切断长连接", "cut the connection"],
  half_open: ["长连接静默", "silent connection"],
  unknown_event: ["机器人的聊天消息", "a bot’s chat message"],
  hint_lark_down: ["所有接口都回 503，长连接被切断，直到恢复。", "Every call is answered 503 and the long connection is cut, until the faults are cleared."],
  hint_slow_lark: ["每个接口都要 2.5 秒，直到恢复。", "Every call takes 2.5 s, until the faults are cleared."],
  hint_rate_limited: ["每个接口接下来的三次调用都被要求一秒后再来。", "The next three calls of each API are answered 429 with a wait of one second."],
  hint_lost_answer: ["下一次用授权码换令牌成功了，但应答丢了：会话以失败结束，卡片可以重试。", "The next code is exchanged, but the answer is lost: the session fails, and the card offers to try again."],
  hint_cut_connection: ["TCP 连接被切断，会自动重连。", "The TCP connection is cut; it is restored by itself."],
  hint_half_open: ["连接还在但不再有数据，几秒后会被发现。", "The socket stays open but silent; this is detected after some seconds."],
  hint_unknown_event: ["不属于 larkauth 的事件：应答、计数，可转给机器人，从不保留。", "An event that is not larkauth’s: it is acknowledged, counted, passed on where a bot wants it, and never kept."],
};

export const lanes = ["lark", "gateway", "bus", "worker", "store"];
export const laneNames = {
  lark: ["Lark", "Lark"],
  gateway: ["网关", "gateway"],
  bus: ["总线", "bus"],
  worker: ["工作者", "worker"],
  store: ["存储", "store"],
};

const laneOfCrate = {
  "": "lark",
  larkauth_gateway: "gateway",
  larkauth_lark: "gateway",
  larkauth_telemetry: "gateway",
  larkauth_runtime: "gateway",
  larkauth_messaging: "bus",
  larkauth_messaging_sqlite: "bus",
  larkauth_auth: "worker",
  larkauth_auth_worker: "worker",
  larkauth_token_refresher: "worker",
  larkauth_storage: "store",
  larkauth_storage_postgres: "store",
  larkauth_storage_sqlite: "store",
  larkauth_sqlite: "store",
};

// By name: the lane, where the crate does not say it, and the title.
const known = {
  invite: [null, "一个服务请求 {name} 授权", "A service asks {en_name} for consent"],
  click: [null, "点击卡片上的“{button}”", "A click on “{button}”"],
  agree: [null, "在授权页上点“同意”", "“Agree” on the consent page"],
  decline: [null, "在授权页上点“拒绝”", "“Decline” on the consent page"],
  token: [null, "一个服务读取 {name} 的令牌", "A service reads {en_name}’s token"],
  break: [null, "故障：{what}", "Fault: {what}"],
  repair: [null, "全部恢复", "All faults cleared"],
  "lark.card.sent": ["lark", "卡片出现在聊天里", "The card appears in the chat"],
  "lark.card.answered": ["lark", "应答换了卡片（{colour}）", "The answer changes the card ({colour})"],
  "lark.card.updated": ["lark", "卡片更新了（{colour}）", "The card is updated ({colour})"],
  "lark.click.answered": ["lark", "点击得到应答", "The click is answered"],
  "lark.click.failed": ["lark", "点击没有得到应答（{code}）", "The click is not answered ({code})"],
  "lark.consent.shown": ["lark", "授权页打开", "The consent page opens"],
  "gateway.push.handle": ["gateway", "长连接推送到达", "A push over the long connection"],
  "POST /v1/auth/sessions": ["gateway", "REST：创建会话", "REST: a session is created"],
  "GET /v1/apps/{app_id}/users/{open_id}/token": ["gateway", "REST：读取令牌", "REST: the token is read"],
  "GET /oauth/callback": ["gateway", "浏览器带着结果回来", "The browser comes back"],
  "bus.invitations.handle": ["bus", "消息：新会话", "Message: a new session"],
  "bus.card-actions.handle": ["bus", "消息：点击", "Message: a click"],
  "bus.oauth-redirects.handle": ["bus", "消息：授权码", "Message: a code"],
  "bus.escrows.handle": ["bus", "消息：暂存的令牌", "Message: tokens in escrow"],
  "bus.card-faces.handle": ["bus", "消息：卡片要更新", "Message: a card to update"],
  "auth.invitations.handle": ["worker", "发送卡片", "Sends the card"],
  "auth.card-actions.handle": ["worker", "处理点击", "Handles the click"],
  "auth.oauth-redirects.handle": ["worker", "用授权码换令牌", "Exchanges the code"],
  "auth.escrows.handle": ["worker", "存入暂存的令牌", "Stores tokens from escrow"],
  "auth.card-faces.handle": ["worker", "更新卡片", "Updates the card"],
  "auth.session.created": ["store", "会话已保存", "The session is stored"],
  "auth.session.ended": ["store", "会话结束：{state}", "The session has ended: {state}"],
  "lark.api.send_card": ["lark", "Lark 接口：发消息", "Lark API: send a message"],
  "lark.api.update_card": ["lark", "Lark 接口：更新卡片", "Lark API: update the card"],
  "lark.api.delayed_update": ["lark", "Lark 接口：延时更新卡片", "Lark API: delayed update"],
  "lark.api.exchange_code": ["lark", "Lark 接口：换令牌", "Lark API: the exchange"],
  "lark.api.user_info": ["lark", "Lark 接口：是谁授权的", "Lark API: who consented"],
  "lark.api.tenant_access_token": ["lark", "Lark 接口：应用令牌", "Lark API: the app token"],
  "long connection: state changed": ["gateway", "长连接：{state}", "Long connection: {state}"],
  "no long connection": ["gateway", "长连接没有建立", "No long connection yet"],
  "the long connection is lost": ["gateway", "长连接断了", "The long connection is lost"],
  "a message will be tried again": ["bus", "消息稍后重试", "A message will be tried again"],
  "a message goes to the dead letters": ["bus", "消息进入死信", "A message goes to the dead letters"],
  "auth.exchange.refused": ["worker", "换令牌没有成功", "The exchange failed"],
  "auth.exchange.identity_mismatch: another person consented, nothing is stored": ["worker", "授权的是另一个人，未存储任何内容", "Another person consented, nothing is stored"],
  "auth.relay.nowhere: this application gets events that are not larkauth's; they are acknowledged, counted and dropped. Give larkauth an application of its own, or set EVENT_RELAY_URL, see docs/operations/relay.md":
    ["gateway", "不属于 larkauth 的事件：已应答并计数，没有保留", "An event that is not larkauth’s: acknowledged and counted, not kept"],
  "health.part.ok": ["gateway", "{part} 恢复正常", "{part} is ready"],
  "health.part.failing": ["gateway", "{part} 不可用", "{part} is not ready"],
};

const translations = {
  pending: "等待中", completed: "完成", rejected: "已拒绝", expired: "已过期", failed: "失败",
  connecting: "连接中", connected: "已连接", reconnecting: "重连中", stopped: "已停止",
  Authorize: "授权", Decline: "拒绝", "Try again": "再试一次", "Ask me again": "重新发起", "Open the page again": "重新打开授权页", "Privacy policy": "隐私政策",
  blue: "蓝色", green: "绿色", red: "红色", grey: "灰色", orange: "橙色",
};

// The lane and the title of an entry of the feed.
export function describe(entry, language) {
  const fields = { ...entry.fields };
  const key = entry.name === "gateway.http.request" ? `${fields.method} ${fields.route}` : entry.name;
  const [lane, zh, en] = known[key] || [null, key, key];
  const here = language === "zh" ? 0 : 1;
  for (const name of ["colour", "state", "button"]) if (here === 0 && fields[name]) fields[name] = translations[fields[name]] || fields[name];
  if (fields.part) fields.part = (texts[`part_${fields.part.split(":")[0]}`] || [fields.part, fields.part])[here];
  if (texts[fields.what]) fields.what = texts[fields.what][here];
  const title = (language === "zh" ? zh : en).replace(/\{(\w+)\}/g, (hole, name) => fields[name] || (known[key] ? "…" : hole));
  return { lane: lane || laneOfCrate[entry.target] || "gateway", title };
}
