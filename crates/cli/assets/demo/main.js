import { drawCard, el } from "./card.js";
import { NARROW, Timeline } from "./timeline.js";
import { texts } from "./texts.js";

const $ = (id) => document.getElementById(id);
const BREAKAGES = ["cut_connection", "half_open", "lost_answer", "lost_refresh", "lark_down", "slow_lark", "rate_limited", "unknown_event"];
const LASTING = new Set(["lost_answer", "lost_refresh", "lark_down", "slow_lark", "rate_limited"]);

const stored = (name) => {
  try { return localStorage.getItem(name); } catch { return null; }
};
const store = (name, value) => {
  try { localStorage.setItem(name, value); } catch { /* private mode: kept for this page only */ }
};

let language = stored("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
let state = null;
let token = null;
let toastTimer = 0;
// The message and the button that opened the page in the phone's browser.
let opener = null;

const t = (name) => (texts[name] || [name, name])[language === "zh" ? 0 : 1];
const timeline = new Timeline($("timeline"), $("lanes"), t);

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body || {}),
  });
  const json = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(json.error);
  return json;
}

// Runs the action of a button. While it runs, the button cannot be pressed again but keeps the focus.
async function doing(button, work) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  try {
    await work();
  } catch (error) {
    toast("error", error.message || t("no_answer"));
  } finally {
    button.ariaDisabled = null;
  }
}

// ---- language and theme

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.cookie = `larkauth_demo_language=${language}; path=/; samesite=strict`;
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    node.title = t(node.dataset.label);
  }
  $("language").textContent = t("other_language");
  $("message").placeholder = t("message_example");
  $("breakages").replaceChildren(...BREAKAGES.map(breakageButton));
  timeline.speak(language);
  if (state) show(true);
  else pill("waiting", t("connecting"));
  showToken();
}

function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

// ---- the chat

const name = (person) => (language === "zh" ? person.name : person.en_name);
const owner = () => state.people.find((person) => person.open_id === $("who").value) || state.people[0];

function show(redraw) {
  const who = $("who");
  if (redraw || who.options.length !== state.people.length) {
    const chosen = who.value;
    who.replaceChildren(...state.people.map((person) => new Option(name(person), person.open_id)));
    if (chosen) who.value = chosen;
  }
  $("bot-name").textContent = state.app.name;
  $("owner").textContent = `${name(owner())}${t("phone_of")}`;
  document.querySelector(".avatar.bot").textContent = state.app.name.slice(0, 1);
  showChat(redraw);
  showStatus();
}

function showChat(redraw) {
  const chat = $("chat");
  const cards = state.chats[owner().open_id] || [];
  if (redraw || chat.dataset.owner !== owner().open_id) chat.replaceChildren();
  chat.dataset.owner = owner().open_id;
  if (cards.length === 0) {
    chat.replaceChildren(el("p", "empty", t("empty")));
    return;
  }
  chat.querySelector(".empty")?.remove();
  for (const old of chat.querySelectorAll(".message")) {
    if (!cards.some((card) => card.message_id === old.dataset.id)) old.remove();
  }
  for (const card of cards) {
    const known = messageNode(card.message_id);
    if (known && known.dataset.faces === String(card.faces)) continue;
    const drawn = message(card);
    const focused = known?.contains(document.activeElement) ? buttons(known).indexOf(document.activeElement) : null;
    if (known) known.replaceWith(drawn);
    else chat.append(drawn);
    if (focused !== null) focusOn(drawn, focused);
    if (!redraw) chat.scrollTop = chat.scrollHeight;
  }
}

const messageNode = (id) => $("chat").querySelector(`[data-id="${CSS.escape(id)}"]`);

const buttons = (node) => [...node.querySelectorAll("button")];

// A redrawn card has new buttons: the focus moves to the one in the same place, or else to the message.
const focusOn = (node, button) => (buttons(node)[button] || node).focus();

function message(card) {
  const time = new Date(card.sent_at).toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB", { hour: "2-digit", minute: "2-digit" });
  const node = el(
    "div",
    "message",
    el("span", "avatar bot", state.app.name.slice(0, 1)),
    el("div", "bubble",
      el("small", "", `${state.app.name} · ${t("bot")} · ${time}`),
      drawCard(card.card, language, (button) => press(card.message_id, button))),
  );
  node.dataset.id = card.message_id;
  node.dataset.faces = card.faces;
  node.tabIndex = -1;
  return node;
}

function press(messageId, button) {
  // As in the real client, the page opens before the click is answered.
  if (button.calls) call(messageId, button);
  if (button.url) openPage(button.url, { messageId, button: button.index });
}

function call(messageId, button) {
  return doing(button.node, async () => {
    const outcome = await post("/api/click", { open_id: owner().open_id, message_id: messageId, button: button.index });
    if (outcome.error !== null) toast("error", `${t("click_failed")} (${outcome.error})`);
    else if (outcome.toast) toast(outcome.toast.type, localized(outcome.toast));
  });
}

const localized = (text) => (text.i18n && text.i18n[language === "zh" ? "zh_cn" : "en_us"]) || text.content;

// The toast appears where the person looks: in the footer of the phone's browser while it is open, else above the chat.
function toast(type, text) {
  hush();
  const node = $($("sheet").open ? "page-toast" : "toast");
  node.className = `toast ${type || "info"}`;
  node.textContent = text;
  node.hidden = false;
  toastTimer = setTimeout(hush, 3500);
}

function hush() {
  clearTimeout(toastTimer);
  for (const node of document.querySelectorAll(".toast")) node.hidden = true;
}

// ---- the phone's browser

function openPage(url, from) {
  const page = new URL(url);
  const frame = $("frame");
  frame.src = "about:blank";
  page.searchParams.set("lang", language);
  frame.src = page.pathname + page.search;
  $("address").textContent = page.host + page.pathname;
  opener = from;
  hush();
  if (!$("sheet").open) $("sheet").show();
  cover();
}

function closePage() {
  $("sheet").close();
  $("frame").src = "about:blank";
  hush();
  cover();
  const node = messageNode(opener.messageId);
  if (node) focusOn(node, opener.button);
}

// Content behind the open page is inert for the keyboard. On a phone that is all of it.
function cover() {
  const { open } = $("sheet");
  $("chat-tab").inert = open;
  for (const node of document.querySelectorAll("body > .bar, body > .tabs")) node.inert = open && NARROW.matches;
}

function onEscape(event) {
  if (event.key === "Escape" && $("sheet").open) closePage();
}

function pageLoaded() {
  const frame = $("frame");
  const place = frame.contentWindow?.location;
  if (!place || place.href === "about:blank") return;
  frame.contentWindow.addEventListener("keydown", onEscape);
  const decided = place.pathname === "/oauth/callback";
  // The toast of the previous page no longer applies.
  if (decided) hush();
  const host = decided ? new URL(state.app.gateway).host : $("address").textContent.split("/")[0];
  $("address").textContent = host + place.pathname;
  // The owner of the phone is preselected. The simulated page can select another person.
  const user = frame.contentDocument.querySelector("select[name=user]");
  if (user) user.value = owner().union_id;
}

// ---- the service

async function ask(event) {
  event.preventDefault();
  const style = $("style").value;
  const card = { include_description: style !== "concise" };
  if (style === "message") card.custom_message = $("message").value || t("message_example");
  await doing(event.submitter || $("ask").querySelector("[type=submit]"), async () => {
    const answer = await post("/api/invite", { open_id: owner().open_id, card });
    if (answer.status !== 201) toast("error", `${answer.status}: ${answer.body.detail || answer.body.title}`);
  });
}

async function readToken() {
  await doing($("read-token"), async () => {
    token = await post("/api/token", { open_id: owner().open_id });
    token.skew = new Date(token.now) - Date.now();
    showToken();
  });
}

function showToken() {
  const panel = $("token");
  panel.hidden = !token;
  if (!token) return;
  const close = el("button", "quiet", "✕");
  close.type = "button";
  close.setAttribute("aria-label", t("close"));
  close.addEventListener("click", () => {
    token = null;
    showToken();
    $("read-token").focus();
  });
  const good = token.status === 200;
  const shown = good ? token.body : { code: token.body.code, title: token.body.title, detail: token.body.detail };
  const left = el("span", "left");
  left.id = "expires";
  panel.replaceChildren(
    el("div", "head", el("b", good ? "ok" : "bad", `HTTP ${token.status}`), left, close),
    el("pre", "", compact(shown)),
    el("div", "by-hand", t("by_hand"), copyButton(token.curl), el("code", "", token.curl)),
  );
  countDown();
}

function copyButton(text) {
  const button = el("button", "small", t("copy"));
  button.type = "button";
  button.addEventListener("click", () => doing(button, async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = t("copied");
  }));
  return button;
}

// Renders one line for each field.
const compact = (json) => JSON.stringify(json, null, 1).replace(/\[\s+([^\]]*?)\s+\]/g, "[$1]");

function countDown() {
  const node = $("expires");
  if (!node || !token || !token.body.expires_at) return;
  const left = Math.max(0, Math.round((new Date(token.body.expires_at) - Date.now() - token.skew) / 1000));
  const two = (n) => String(n).padStart(2, "0");
  const clock = `${Math.floor(left / 3600)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`;
  node.textContent = left ? `${t("expires_in")} ${clock}` : t("expired");
}

// ---- health and faults

function pill(kind, text) {
  $("ready").className = `pill ${kind}`;
  $("ready").textContent = text;
}

function part(kind, label, value, hint) {
  const node = el("span", `part ${kind}`, el("i", ""), label, value === undefined ? null : el("b", "", String(value)));
  if (hint) node.title = hint;
  return node;
}

function showStatus() {
  const status = state.status;
  pill(status.ready ? "good" : "bad", t(status.ready ? "ready" : "not_ready"));
  const parts = status.parts.map((one) => {
    const kind = one.name.split(":")[0];
    return part(one.state === "ok" ? "good" : "bad", texts[`part_${kind}`] ? t(`part_${kind}`) : kind, undefined, one.reason);
  });
  const dead = status.dead_letters;
  parts.push(part(status.connections ? "good" : "bad", t("connections"), status.connections));
  parts.push(part(dead ? "warn" : "good", t("dead_letters"), dead ?? "?"));
  $("parts").replaceChildren(...parts);
  for (const button of $("breakages").children) {
    if (LASTING.has(button.dataset.what)) button.setAttribute("aria-pressed", String(status.broken.includes(button.dataset.what)));
  }
  $("repair").classList.toggle("primary", status.broken.length > 0);
}

function breakageButton(what) {
  const button = el("button", "breakage", t(what), el("small", "", t(`hint_${what}`)));
  button.type = "button";
  button.dataset.what = what;
  button.title = t(`hint_${what}`);
  if (LASTING.has(what)) button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => doing(button, () => post("/api/break", { what })));
  return button;
}

// ---- events

function listen() {
  const events = new EventSource("/events");
  // After a reconnect all kept entries are sent again.
  events.addEventListener("open", () => timeline.clear());
  events.addEventListener("feed", (event) => timeline.show(JSON.parse(event.data)));
  events.addEventListener("state", (event) => {
    const fresh = JSON.parse(event.data);
    if (!fresh.app) return;
    state = fresh;
    show(false);
  });
  events.addEventListener("error", () => pill("bad", t("gone")));
}

function tab(name) {
  document.body.dataset.tab = name;
  for (const button of document.querySelectorAll(".tabs button")) {
    button.setAttribute("aria-selected", String(button.dataset.tab === name));
  }
  timeline.end();
}

$("language").addEventListener("click", () => {
  const chosen = language === "zh" ? "en" : "zh";
  store("language", chosen);
  speak(chosen);
});
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = dark ? "light" : "dark";
  store("theme", theme);
  dress(theme);
});
$("ask").addEventListener("submit", ask);
$("style").addEventListener("change", () => { $("message-row").hidden = $("style").value !== "message"; });
$("who").addEventListener("change", () => { token = null; showToken(); show(true); });
$("read-token").addEventListener("click", readToken);
$("close-sheet").addEventListener("click", closePage);
addEventListener("keydown", onEscape);
NARROW.addEventListener("change", cover);
$("frame").addEventListener("load", pageLoaded);
$("two-hours").addEventListener("click", () => doing($("two-hours"), async () => {
  await post("/api/two-hours");
  if (token) token.skew += 2 * 3600 * 1000;
  countDown();
}));
$("repair").addEventListener("click", () => doing($("repair"), () => post("/api/repair")));
$("clear").addEventListener("click", () => timeline.clear());
for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => tab(button.dataset.tab));
setInterval(countDown, 1000);

dress(stored("theme"));
tab("chat");
speak(language);
listen();
