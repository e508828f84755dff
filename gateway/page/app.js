"use strict";
// The operator's page. It shows what the gateway tells and asks for nothing else. Text goes in as text, never as markup.

const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "click") element.addEventListener("click", value);
    else if (value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Puts new content in place without taking the focus from what has it. */
function fill(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  place.replaceChildren(...children);
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Text in which what stands between backticks is code. */
const coded = (text) => text.split("`").map((part, n) => n % 2 === 1 ? make("code", {}, part) : part);

const number = (value) => new Intl.NumberFormat("en").format(value);

/** A JSON document in which ids of more than fifteen digits stay what they are, as text: a number would be rounded. */
function exact(text) {
  return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => /^\d{16,}$/.test(token) ? `"${token}"` : token));
}

const plural = (count, one, more) => `${number(count)} ${count === 1 ? one : more}`;

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${count.toFixed(unit && count < 100 ? 1 : 0)} ${units[unit]}`;
}

function took(ms) {
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3600000) return `${Math.floor(ms / 60000)} min ${Math.floor(ms / 1000) % 60} s`;
  return `${Math.floor(ms / 3600000)} h ${Math.floor(ms / 60000) % 60} min`;
}

function title(saga) {
  const kind = saga.kind === "orphan" ? "saga of which only the id is known" : saga.kind ?? "saga whose beginning is lost";
  return saga.article_id === null ? kind : `${kind} of article ${saga.article_id} by user ${saga.user_id}`;
}

function stateTag(saga) {
  const tone = saga.needs_attention || saga.state === "quarantined" ? "bad" : saga.state === "completed" ? "good" : "warn";
  const unsettled = saga.ended_at && !saga.settled ? ", unsettled" : "";
  return make("span", { class: `tag ${tone}` }, saga.state.replaceAll("_", " ") + unsettled);
}

function showButton(saga) {
  return make("button", { class: "link", type: "button", "data-key": saga.saga_id, click: () => show(saga.saga_id, true) }, title(saga));
}

function table(columns, rows, empty) {
  if (rows.length === 0) return make("p", {}, empty);
  const head = columns.map(([name, style]) => make("th", { scope: "col", class: style ?? "" }, name));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell, n) => make("td", { class: columns[n][1] ?? "" }, cell))));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
}

// What is going on.

let overview = null;

function since(text, now) { return took(Math.max(0, Date.parse(now) - Date.parse(text))); }

function verdict(seen) {
  const down = seen.services.filter((service) => !service.reachable);
  const low = seen.services.filter((service) => service.status?.storage_low);
  const { needs_attention: need, hanging } = seen.counts;
  // All that is bad, not the worst of it alone: one may be the cause of the other.
  const bad = [];
  if (need > 0) bad.push(`${plural(need, "saga needs", "sagas need")} an operator`);
  if (down.length > 0) bad.push(`the ${down.map((s) => s.service).join(" and the ")} service does not answer`);
  if (low.length > 0) bad.push(`the ${low.map((s) => s.service).join(" and the ")} service is short of disk space`);
  const damaged = seen.services.filter((service) => service.status?.damaged > 0);
  if (damaged.length > 0) bad.push(`the store of the ${damaged.map((s) => s.service).join(" and the ")} service is damaged`);
  if (seen.problems.length > 0) bad.push("something is wrong with the saga log");
  if (bad.length > 0) return ["bad", bad.join("; ").replace(/^[a-z]/, (first) => first.toUpperCase())];
  if (hanging > 0) return ["warn", `${plural(hanging, "saga has", "sagas have")} been open for more than five minutes`];
  return ["good", "All is well"];
}

function serviceCard({ service, reachable, problem, status }) {
  const name = make("h3", {}, `${service[0].toUpperCase()}${service.slice(1)} service`);
  if (!reachable) return make("div", { class: "down" }, name, make("p", {}, `Does not answer: ${problem}`));
  const group = status.committed > status.groups ? `, ${(status.committed / status.groups).toFixed(1)} requests a group` : "";
  const low = status.storage_low ? "short of disk space, refuses new likes: " : "";
  const damaged = status.damaged > 0 ? [make("p", {}, ...coded(`${plural(status.damaged, "row", "rows")} damaged: \`likectl status\` names what is damaged, \`likectl audit\` what that costs`))] : [];
  return make("div", { class: status.storage_low || status.damaged > 0 ? "down" : "" }, name, ...damaged,
    make("p", {}, `queue ${number(status.queued)} of ${number(status.queue_limit)}, ${plural(status.unsettled, "step", "steps")} unsettled${group}`),
    make("p", {}, `${low}store ${bytes(status.store_bytes)}, ${bytes(status.free_bytes)} free, version ${status.version}`));
}

function troubleCard(saga, now) {
  const age = `${saga.state.replaceAll("_", " ")} for ${since(saga.started_at, now)}, ${plural(saga.attempts, "attempt", "attempts")}.`;
  const last = saga.last_failure ? ` Last: ${saga.last_failure}` : "";
  return make("li", {}, showButton(saga), make("p", {}, age + last), make("div", { class: "line" }, ...actions(saga)));
}

/** Lists that are cut short: how much of each is shown, and whether all of it was asked for. */
const shorts = { trouble: { most: 5, all: false }, open: { most: 10, all: false } };

/** The first few, and a button that shows the rest; a day on which hundreds hang must leave the rest of the page in reach. */
function cutShort(name, what, all) {
  const short = shorts[name];
  const button = at(`${name}-all`);
  button.hidden = all.length <= short.most;
  const words = short.all ? "Show fewer" : `Show all ${number(all.length)} ${what}`;
  if (button.textContent !== words) button.textContent = words;
  button.setAttribute("aria-expanded", String(short.all));
  return short.all ? all : all.slice(0, short.most);
}
for (const [name, short] of Object.entries(shorts)) {
  at(`${name}-all`).addEventListener("click", () => { short.all = !short.all; tell(overview); });
}

/** What to do first if many are in trouble: one of them is seldom the cause. */
function first(seen) {
  const down = seen.services.filter((service) => !service.reachable).map((service) => service.service);
  if (down.length === 0) return "Each is tried again by itself now and then. Look at one to see what holds it up.";
  return `Mend the ${down.join(" and the ")} service first: what waits for it ends by itself once it answers, and nothing needs to be done for each saga.`;
}

function tell(seen) {
  overview = seen;
  const [tone, words] = verdict(seen);
  if (at("verdict").textContent !== words) at("verdict").textContent = words;
  at("verdict").className = `verdict ${tone}`;
  document.title = tone === "good" ? "Likes" : `(!) ${words}`;
  at("version").textContent = `like-gateway ${seen.version}.`;
  const { counts } = seen;
  const shown = [
    ["going forward", counts.running], ["going back", counts.compensating], ["ended, unsettled", counts.unsettled],
    ["hanging", counts.hanging, true], ["quarantined", counts.quarantined, true], ["need an operator", counts.needs_attention, true],
  ];
  fill(at("counts"), ...shown.map(([name, count, alarming]) =>
    make("div", { class: alarming && count > 0 ? "bad" : "" }, make("dt", {}, name), make("dd", {}, number(count)))));
  fill(at("services"), ...seen.services.map(serviceCard));
  fill(at("problems"), ...seen.problems.map((problem) => make("li", {}, problem)));
  const trouble = seen.open.filter((saga) => saga.needs_attention);
  at("trouble-section").hidden = trouble.length === 0;
  at("trouble-title").textContent = `Needs attention (${number(counts.needs_attention)})`;
  at("trouble-first").textContent = first(seen);
  fill(at("trouble"), ...cutShort("trouble", "that are listed", trouble).map((saga) => troubleCard(saga, seen.at)));
  const rest = seen.open.filter((saga) => !saga.needs_attention);
  const all = counts.running + counts.compensating + counts.quarantined + counts.unsettled;
  at("open-title").textContent = `In flight (${number(all - counts.needs_attention)})`;
  fill(at("open"), table([["Saga"], ["State"], ["Open for", "number"], ["Attempts", "number wide"], ["Last failure", "wide"]],
    cutShort("open", "that are listed", rest).map((saga) => [showButton(saga), stateTag(saga), since(saga.started_at, seen.at), number(saga.attempts), saga.last_failure ?? ""]),
    "Nothing is in flight."));
  fill(at("recent"), table([["Saga"], ["State"], ["Took", "number"], ["Ended", "wide"], ["Why it was undone", "wide"]],
    seen.recent.map((saga) => [showButton(saga), stateTag(saga), since(saga.started_at, saga.ended_at ?? seen.at), (saga.ended_at ?? "").replace("T", " ").replace("Z", " UTC"), saga.state === "compensated" ? saga.last_failure ?? "" : ""]),
    "Nothing has ended lately."));
  if (shownSaga) show(shownSaga, false);
}

// One saga.

let shownSaga = null;

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
  const text = await answer.text();
  // What stands between may answer in words of its own.
  if (!/json$/.test(answer.headers.get("content-type") ?? "")) throw new Error(`no answer from the gateway (status ${answer.status})`);
  const document = exact(text);
  if (!answer.ok) throw new Error([document.detail, document.hint].filter(Boolean).join("; "));
  return document;
}

async function show(id, byHand) {
  shownSaga = id;
  let saga;
  try {
    saga = await ask(`sagas/${encodeURIComponent(id)}`);
  } catch (error) {
    if (shownSaga !== id) return;
    if (byHand) shownSaga = null;
    at("saga-section").hidden = false;
    at("saga-title").textContent = "Saga";
    fill(at("saga"), make("p", { class: "error", role: "alert" }, error.message));
    return;
  }
  if (shownSaga !== id) return;
  at("saga-section").hidden = false;
  at("saga-title").textContent = `Saga: ${title(saga)}`;
  const now = overview?.at ?? saga.started_at;
  const lasted = saga.ended_at ? `${took(Date.parse(saga.ended_at) - Date.parse(saga.started_at))}` : `open for ${since(saga.started_at, now)}`;
  const open = !saga.ended_at || !saga.settled;
  const owner = open && saga.owner ? `, held by pid ${saga.owner.pid} (${saga.owner.command})${saga.owner.stopped ? ", which is stopped" : ""}` : "";
  const facts = [["Id", saga.saga_id], ["State", stateTag(saga)], ["Began", saga.started_at.replace("T", " ").replace("Z", " UTC")], ["Time", lasted], ["Log", `slot ${saga.slot}${owner}`]];
  fill(at("saga"),
    make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    make("div", { class: "picture" }, picture(saga, at("saga").clientWidth - 28)),
    make("h3", {}, "What happened"),
    make("ol", { class: "history" }, ...withoutRepeats(saga.history).map(historyLine)),
    make("h3", {}, "What may be done next"),
    make("ul", {}, ...saga.advice.map((line) => make("li", {}, ...coded(line)))),
    make("p", { class: "line" }, ...actions(saga), make("button", { type: "button", "data-key": "close", click: hide }, "Close")));
  if (byHand) at("saga-title").focus();
}

// The picture is as wide as there is room.
let resized = null;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => shownSaga && show(shownSaga, false), 200);
});

function hide() {
  shownSaga = null;
  at("saga-section").hidden = true;
  at("main").focus();
}

/** Failures that only repeat the one before are told once. */
function withoutRepeats(history) {
  const lines = [];
  for (const line of history) {
    const last = lines.at(-1);
    if (last && line.tone === "bad" && last.first.what === line.what && last.first.step === line.step) {
      last.times += 1;
      last.last = line;
    } else lines.push({ first: line, last: line, times: 1 });
  }
  return lines;
}

function historyLine({ first, last, times }) {
  const where = first.step ? `${first.service}, ${first.step}: ` : "";
  const again = times > 1 ? ` (${times} times, last after ${took(last.after_ms)})` : "";
  const marks = { good: "✓ ", bad: "✗ ", turn: "● ", plain: "" };
  return make("li", { class: first.tone },
    make("span", { class: "at" }, `after ${took(first.after_ms)}`), make("span", {}, marks[first.tone] + where + first.what + again));
}

const MARKS = [["plain", "sent, noted"], ["good", "done"], ["bad", "failed"], ["turn", "a turn"]];

/** The timeline as a picture: a lane for the saga and one for each step, left to right. The list below it says the same. */
function picture(saga, room) {
  const lanes = ["saga", ...saga.steps.map((step) => step.name)];
  const width = Math.max(260, room);
  const narrow = width < 560;
  const [left, right, height, top] = [narrow ? 8 : 160, width - 24, narrow ? 52 : 44, 8];
  const end = Math.max(1, ...saga.history.map((line) => line.after_ms));
  // Most happens in the first milliseconds and some after minutes: a logarithmic axis shows both.
  const x = (ms) => left + 12 + (right - left - 12) * Math.log1p(ms) / Math.log1p(end);
  const middle = (lane) => top + lane * height + (narrow ? 34 : height / 2);
  const bottom = top + lanes.length * height;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${bottom + 50}`, width, height: bottom + 50, role: "img",
    "aria-label": `Timeline of ${plural(saga.history.length, "event", "events")} in ${took(end)}; the list below tells each of them.` });
  let edge = -Infinity;
  const ticks = [0, 1, 10, 100, 1000, 10000, 60000, 600000, 3600000].filter((ms) => ms < end);
  for (const ms of [end, ...ticks.reverse()]) {
    const place = x(ms);
    if (edge !== -Infinity && place > edge - 70) continue;
    edge = place;
    svg.append(draw("line", { class: "rule", x1: place, x2: place, y1: top, y2: bottom }));
    const anchor = ms === end ? "end" : ms === 0 ? "start" : "middle";
    svg.append(draw("text", { class: "soft", x: ms === end ? width - 2 : place, y: bottom + 16, "text-anchor": anchor }, took(ms)));
  }
  lanes.forEach((name, n) => {
    const y = middle(n);
    svg.append(draw("line", { class: "rule", x1: left, x2: width, y1: y, y2: y }));
    const service = n > 0 ? `${saga.steps[n - 1].service} service` : "";
    if (narrow) svg.append(draw("text", { x: 2, y: y - 14 }, n > 0 ? `${name}, ${service}` : name));
    else {
      svg.append(draw("text", { x: 0, y: n > 0 ? y - 2 : y + 4 }, name));
      if (n > 0) svg.append(draw("text", { class: "soft", x: 0, y: y + 13 }, service));
    }
    const lines = saga.history.filter((line) => (line.step ?? "saga") === name);
    if (n > 0 && lines.length > 1) {
      svg.append(draw("line", { class: "span", x1: x(lines[0].after_ms), x2: x(lines.at(-1).after_ms), y1: y, y2: y }));
    }
    marks(lines, x, right).forEach(([line, place]) => {
      svg.append(draw("circle", { class: line.tone, cx: place, cy: y, r: line.tone === "plain" ? 4 : 6, "stroke-width": 2 },
        draw("title", {}, `${line.what}, after ${took(line.after_ms)}`)));
    });
  });
  let legend = 6;
  for (const [tone, words] of MARKS) {
    svg.append(draw("circle", { class: tone, cx: legend, cy: bottom + 38, r: tone === "plain" ? 4 : 5, "stroke-width": 2 }));
    svg.append(draw("text", { class: "soft", x: legend + 10, y: bottom + 42 }, words));
    legend += 30 + words.length * 6.4;
  }
  return svg;
}

/** Where marks go: at their time, or beside the one before, so that none hides another while there is room. */
function marks(lines, x, right) {
  const room = lines.length > 1 ? Math.min(13, (right - x(0)) / (lines.length - 1)) : 13;
  const places = [];
  lines.forEach((line, n) => places.push(n === 0 ? x(line.after_ms) : Math.max(x(line.after_ms), places[n - 1] + room)));
  let most = right;
  for (let n = places.length - 1; n >= 0; n -= 1) {
    places[n] = Math.min(places[n], most);
    most = places[n] - room;
  }
  return lines.map((line, n) => [line, places[n]]);
}

// What an operator may do.

const ACTS = {
  retry: { name: "Retry now", consequences: ["The saga is tried at once, with a new deadline if it goes forward.", "This never does harm: every step can be repeated."] },
  compensate: { name: "Undo", danger: true, consequences: ["Every step is undone, even if somebody was told that the like had succeeded.", "It can't be taken back: a saga that turns back never goes forward again."] },
  force: { name: "Force an end", danger: true, consequences: ["Last resort: the saga ends by your word, whatever the services say.", "What that leaves broken is recorded. `likectl audit` finds it, and `likectl audit --repair` sets the counts.", "It can't be taken back."] },
};
let token = "";
let pending = null;

function actions(saga) {
  if (saga.ended_at || !overview?.administration) return [];
  const possible = saga.state === "quarantined" ? ["force"] : saga.state === "running" ? ["retry", "compensate", "force"] : ["retry", "force"];
  return possible.map((act) => make("button", { type: "button", class: ACTS[act].danger ? "danger" : "", "data-key": `${act} ${saga.saga_id}`, "aria-label": `${ACTS[act].name}: ${title(saga)}`, click: () => openAct(act, saga) }, `${ACTS[act].name} …`));
}

function openAct(act, saga) {
  pending = { act, id: saga.saga_id };
  at("act-title").textContent = `${ACTS[act].name}: ${title(saga)}`;
  at("act-saga").textContent = saga.saga_id;
  at("act-consequences").replaceChildren(...ACTS[act].consequences.map((line) => make("li", {}, ...coded(line))));
  at("act-end").hidden = act !== "force";
  at("act-error").textContent = "";
  at("act-reason").value = "";
  at("act-token").value = token;
  at("act-go").textContent = ACTS[act].name;
  at("act-go").className = ACTS[act].danger ? "danger" : "";
  at("act").showModal();
  at("act-reason").focus();
}

at("act-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { act, id } = pending;
  const body = { reason: at("act-reason").value };
  if (act === "force") body.as = document.querySelector("input[name=end]:checked").value;
  token = at("act-token").value;
  at("act-go").disabled = true;
  at("act-error").textContent = "";
  try {
    const headers = { "Content-Type": "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    const done = await ask(`sagas/${encodeURIComponent(id)}/${act}`, { method: "POST", headers, body: JSON.stringify(body) });
    at("act").close();
    at("result").textContent = done.leaves_broken.length > 0 ? `It has ended. May be left broken: ${done.leaves_broken.join(", ")}.` : "";
    show(id, true);
  } catch (error) {
    at("act-error").textContent = error.message;
  } finally {
    at("act-go").disabled = false;
  }
});
at("act-cancel").addEventListener("click", () => at("act").close());
// The button that opened it may have been made anew meanwhile.
at("act").addEventListener("close", () => {
  if (!at("main").contains(document.activeElement)) document.querySelector(`[data-key="${CSS.escape(`${pending.act} ${pending.id}`)}"]`)?.focus();
});

at("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("find-id").value.trim();
  if (id) show(id, true);
});

// Articles.

const ARTICLES_PAGE = 50;
let articles = [];
let allRead = false;
let reading = false;

async function readArticles() {
  // Whoever is impatient would get the same page twice.
  if (reading) return;
  reading = true;
  if (allRead) articles = [];
  const after = articles.length > 0 ? `&after=${articles.at(-1).article_id}` : "";
  try {
    const page = await ask(`articles?limit=${ARTICLES_PAGE}${after}`);
    articles.push(...page);
    fill(at("articles"), table([["Number", "number"], ["Title"], ["Likes", "number"], ["Pending", "number"]],
      articles.map((article) => article.damaged
        ? [String(article.article_id), make("span", { class: "error" }, `damaged: ${article.damaged}`), "", ""]
        : [String(article.article_id), likersButton(article), number(article.likes), article.pending ? number(article.pending) : ""]),
      "There are no articles yet."));
    allRead = page.length < ARTICLES_PAGE;
    at("more-articles").textContent = allRead ? "Read again" : "More";
  } catch (error) {
    fill(at("articles"), make("p", { class: "error", role: "alert" }, error.message));
    at("more-articles").textContent = "Try again";
  }
  reading = false;
}
at("more-articles").addEventListener("click", readArticles);

function likersButton({ article_id, title }) {
  return make("button", { class: "link", type: "button", "data-key": `article ${article_id}`, click: () => showLikers(article_id, title) }, title);
}

async function showLikers(article, title) {
  try {
    const likes = await ask(`articles/${article}/likes?limit=200`);
    const users = likes.map((like) => `user ${like.user_id}${like.pending ? " (pending)" : ""}`).join(", ");
    at("likers").textContent = likes.length === 0 ? `Nobody likes “${title}” yet.` : `“${title}” is liked by ${users}${likes.length === 200 ? " and more" : ""}.`;
  } catch (error) {
    at("likers").textContent = error.message;
  }
}

// Live updates.

function follow() {
  const events = new EventSource("events");
  const say = (tone, words) => {
    document.querySelector(".dot").className = `dot ${tone}`;
    if (at("live-text").textContent !== words) at("live-text").textContent = words;
  };
  events.addEventListener("open", () => say("on", "live"));
  events.addEventListener("overview", (event) => {
    say("on", "live");
    tell(exact(event.data));
  });
  events.addEventListener("unseen", (event) => {
    say("off", "what is shown is out of date");
    at("verdict").textContent = `What is going on can't be seen: ${exact(event.data).detail}`;
    at("verdict").className = "verdict bad";
    document.title = "(!) can't be seen";
  });
  events.addEventListener("error", () => {
    say("off", "no connection to the gateway: what is shown may be out of date");
    // A browser gives up where it was refused: then it is tried anew.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  });
}
follow();
readArticles();
