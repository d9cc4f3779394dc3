// The page itself, from the token to the feed.

const POLL = 2000;        // ms between two looks at the overview
const SLOWEST = 15000;    // ms between two tries while the server cannot be reached
const SAMPLES = 60;       // points of a curve
const RECENT = 5;         // points that a figure is the mean of
const FEED_ROWS = 200;
const STEPS = [50, 200, 1000];   // sessions that are listed

const REASONS = { expired: 'expired', client: 'by client', admin: 'by operator', shutdown: 'by shutdown' };
const AUTH = { off: 'no token', passthrough: 'any bearer token', tokens: 'its bearer tokens' };
const EVENTS = {
  session_created: ['+', 'Created'],
  session_ended: ['−', 'Ended'],
  stream_opened: ['▸', 'Stream opened'],
  stream_closed: ['◂', 'Stream closed'],
  draining: ['!', 'Draining: no new sessions'],
  reloaded: ['↻', 'Configuration reloaded'],
  restarted: ['!', 'The server was restarted'],
  missed: ['…', 'events were missed'],
};

// ---- The token: in this tab alone.

let token = '';

/** Takes the token out of the address, where it must not stay. */
function takeFragment() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, '', location.pathname + location.search);
  [, token] = found;
  return true;
}

function enter() {
  // What a header cannot carry is no token.
  if (!/^[!-~]+$/.test(token)) {
    leave('A token is made of letters, digits and -._~+/');
    return;
  }
  sessionStorage.setItem('token', token);
  $('login').hidden = true;
  $('page').hidden = $('leave').hidden = false;
  $('token').value = '';
  say($('login-problem'), '');
  start();
}

function leave(problem) {
  stop();
  token = '';
  sessionStorage.removeItem('token');
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  $('page').hidden = $('leave').hidden = true;
  $('login').hidden = false;
  say($('facts'), '');
  pill(problem ? 'gone' : 'connecting', problem ? 'not admitted' : 'waiting for the token');
  say($('login-problem'), problem ?? '');
  $('token').focus();
}

// ---- Asking.

class Denied extends Error {}
class Refused extends Error {}
class Missing extends Error {}

/** One request; whoever waits for it is told within ten seconds. */
async function ask(path, method = 'GET', options = {}) {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const signal = options.signal ?? AbortSignal.any([AbortSignal.timeout(10000), visit.signal]);
  const response = await fetch(`/debug/${path}`, { method, headers, signal, cache: 'no-store' });
  if (response.ok) return response;
  if (response.status === 401) throw new Denied();
  const text = (await response.json().catch(() => ({}))).error ?? `HTTP status ${response.status}`;
  throw response.status === 404 ? new Missing(text) : new Refused(text);
}

const askJson = async (...request) => (await ask(...request)).json();

/** Whether the server is gone or the token is wrong is told by `look`. */
const quietly = (work) => work.catch(() => {});

// ---- From the token on, until it is forgotten.

let visit;            // aborted when the token is forgotten
let boot = null;      // the start of the server that the numbers are of
let before = null;    // the overview before this one
let failures = 0;
let timer;
let wakers = [];      // who waits for the server to be there again

function start() {
  visit?.abort();
  visit = new AbortController();
  [boot, before, failures] = [null, null, 0];
  tiles.clear();
  $('tiles').replaceChildren();
  $('feed').replaceChildren();
  pill('connecting', 'connecting');
  look();
  follow(visit.signal);
}

function stop() {
  visit?.abort();
  clearTimeout(timer);
}

async function look() {
  clearTimeout(timer);
  const { signal } = visit;
  try {
    const overview = await askJson('overview');
    if (signal.aborted) return;
    failures = 0;
    show(overview);
    wakers.splice(0).forEach((wake) => wake());
    if (performance.now() >= notBefore) await list();
    await failed.refresh();
    await detail.refresh();
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Denied) {
      leave('The server does not accept this token. One that is made up at the start is another after a restart.');
      return;
    }
    failures += 1;
    before = null;
  }
  if (signal.aborted) return;
  let pause = POLL;
  if (failures) {
    pause = Math.min(POLL * 2 ** (failures - 1), SLOWEST);
    pill('gone', 'not reachable');
    notice('gone', `The server cannot be reached. What you see is old; the next try is in ${pause / 1000} s.`, true);
  }
  clearTimeout(timer);
  timer = setTimeout(() => document.hidden || look(), pause);
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !$('page').hidden) look();
});
$('retry').onclick = look;

function pill(state, text) {
  $('pill').dataset.state = state;
  say($('pill'), text);
}

function notice(state, text, retry) {
  $('notice').hidden = !text;
  $('notice').dataset.state = state;
  $('retry').hidden = !retry;
  say($('notice-text'), text);
}

// ---- The overview.

const tiles = new Map();
let chosen = null;    // the one instance whose sessions and events are shown
let alone = false;    // whether there is but one
let clientsPort = null;   // where clients find it, if this page is on another port

/** Where sessions live; nothing without a store. */
function storeFacts({ store, instances }) {
  if (!store) return {};
  const own = instances.filter((now) => now.sessions === 'memory').map((now) => now.instance);
  const but = own.length ? `, but ${own.join(', ')} in memory` : '';
  return { store: `${store.address} (${store.up ? 'up' : store.reached ? 'lost' : 'not reached yet'}${but})` };
}

function show(overview) {
  if (boot && boot !== overview.boot) {
    before = null;
    addEvents([{ event: 'restarted', at: new Date() }]);
  }
  boot = overview.boot;
  alone = overview.instances.length === 1;
  if (alone) chosen = overview.instances[0].instance;
  if (overview.draining) {
    pill('draining', 'draining');
    notice('draining', 'The server is stopping: it takes no new session and ends when its calls have.');
  } else {
    pill('live', 'live');
    notice('live', '');
  }
  const facts = {
    replica: overview.replica, tag: overview.tag, boot: overview.boot, up: span(overview.uptime_seconds), version: overview.version,
    ...storeFacts(overview),
  };
  $('facts').replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [h('span', {}, `${name} `, h('b', {}, value)), ' ']));
  $('tiles').dataset.count = overview.instances.length;
  const seconds = before ? overview.uptime_seconds - before.uptime_seconds : 0;
  for (const now of overview.instances) {
    if (!tiles.has(now.instance)) tiles.set(now.instance, new Tile(now.instance));
    const old = before?.instances.find((other) => other.instance === now.instance);
    tiles.get(now.instance).show(now, old && seconds > 0 ? old : null, seconds);
  }
  const top = Math.max(1, ...[...tiles.values()].map((tile) => tile.top()));
  for (const tile of tiles.values()) tile.draw(top);
  say($('scale'), rate(top));
  clientsPort = overview.port;
  const errors = overview.instances.reduce((sum, now) => sum + now.errors, overview.errors_of_no_instance ?? 0);
  $('all-failed').hidden = errors === 0;
  say($('all-failed'), `${plural(errors, 'failed request')} since the start`);
  $('refused').hidden = !overview.errors_of_no_instance;
  say($('refused'), `${whole(overview.errors_of_no_instance ?? 0)} of them reached no instance`);
  before = overview;
  const live = overview.instances.reduce((sum, now) => sum + now.live, 0);
  document.title = `${whole(live)} live · mcp-echo-stateful`;
  toolbar();
}

class Tile {
  constructor(instance) {
    const named = [badge(instance), `Instance ${instance}`];
    this.pick = h('button', { className: 'pick', type: 'button', onclick: () => choose(instance) }, ...named);
    const title = h('h3', {}, alone ? h('span', { className: 'pick' }, ...named) : this.pick);
    this.host = h('p', { className: 'host' });
    this.policy = h('p', { className: 'policy' });
    this.live = h('b');
    this.rest = h('span');
    this.curve = svg('svg', { class: 'spark', viewBox: `0 0 ${SAMPLES - 1} 24`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    this.lines = Object.fromEntries(['base', 'area', 'curve', 'errors'].map((name) => {
      const line = svg('path', { class: name });
      this.curve.append(line);
      return [name, line];
    }));
    this.lines.base.setAttribute('d', `M0 22H${SAMPLES - 1}`);
    const figure = (name, kind, value) => {
      const element = h('dd', {}, value);
      this.rates.append(h('div', { className: kind }, h('dt', {}, name), element));
      return element;
    };
    this.rates = h('dl', { className: 'rates' });
    this.errors = h('button', { type: 'button', onclick: () => failed.open(instance) });
    this.requests = figure('req/s', 'req', '–');
    figure('failed', 'err', this.errors);
    this.streams = figure('streams', 'streams', '–');
    this.bar = h('div', { className: 'ended', ariaHidden: 'true' });
    this.reasons = h('p', { className: 'reasons' });
    this.element = h('article', { className: 'tile' },
      title, this.host, this.policy, h('p', { className: 'live' }, this.live, ' ', this.rest), this.curve, this.rates, this.bar, this.reasons);
    this.element.dataset.instance = instance;
    this.samples = [];
    $('tiles').append(this.element);
  }

  show(now, old, seconds) {
    this.now = now;
    const { auth, protocol_versions: revisions, idle_timeout_seconds: idle } = now.policy;
    say(this.host, this.host.title = now.host);
    const served = revisions.length === 1 ? revisions[0] : `${revisions.length} revisions`;
    say(this.policy, `${AUTH[auth] ?? auth} · ${served} · ${span(idle)} idle`);
    this.policy.title = `auth.mode ${auth}; revisions ${revisions.join(', ')}; sessions expire after ${idle} idle seconds; ${whole(now.capacity)} at the most`;
    say(this.live, whole(now.live));
    say(this.rest, now.live >= now.capacity * 0.9 ? `of ${whole(now.capacity)}` : 'live');
    say(this.errors, whole(now.errors));
    this.errors.disabled = now.errors === 0;
    this.errors.ariaLabel = `${plural(now.errors, 'failed request')} of instance ${now.instance}: show`;
    say(this.streams, whole(now.open_streams));
    this.live.title = `${bytes(now.data_bytes)} of data`;
    if (old) {
      this.samples.push([now.requests - old.requests, now.errors - old.errors].map((count) => count / seconds));
      if (this.samples.length > SAMPLES) this.samples.shift();
      const recent = this.samples.slice(-RECENT);
      const mean = (which) => recent.reduce((sum, sample) => sum + sample[which], 0) / recent.length;
      say(this.requests, rate(mean(0)));
      this.element.classList.toggle('failing', mean(1) > 0);
    }
    this.element.classList.toggle('still', now.live === 0);
    const ended = Object.keys(REASONS).map((reason) => [reason, now.ended[reason]]).filter(([, count]) => count > 0);
    const key = JSON.stringify([ended, now.refused]);
    if (key === this.key) return;
    this.key = key;
    const part = ([reason, count]) => {
      const element = h('i');
      element.dataset.reason = reason;
      element.style.flexGrow = count;
      return element;
    };
    this.bar.replaceChildren(...ended.map(part));
    const words = ended.map(([reason, count]) => [reason, `${whole(count)} ${REASONS[reason]}`]);
    if (now.refused) words.push(['', `${whole(now.refused)} not begun`]);
    this.reasons.title = words.map(([, text]) => text).join(', ');
    const parts = words.map(([reason, text], place) => {
      const element = h('span', {}, place < words.length - 1 ? `${text}, ` : text);
      if (reason) element.dataset.reason = reason;
      return element;
    });
    this.reasons.replaceChildren(...(parts.length ? parts : ['none ended']));
  }

  /** Requests per second at the most. */
  top() {
    return Math.max(0, ...this.samples.map(([requests]) => requests));
  }

  /** One scale for all tiles, or a quiet one would look as busy as any. */
  draw(top) {
    const x = (index) => SAMPLES - this.samples.length + index;
    const points = this.samples.map(([requests], index) => `${x(index)} ${(22 - (requests / top) * 20).toFixed(2)}`);
    const curve = points.length > 1 ? `M${points.join('L')}` : '';
    this.lines.curve.setAttribute('d', curve);
    this.lines.area.setAttribute('d', curve && `${curve}V22H${x(0)}Z`);
    this.lines.errors.setAttribute('d', this.samples.map(([, errors], index) => (errors > 0 ? `M${x(index)} 20.5V24` : '')).join(''));
  }
}

function choose(instance) {
  chosen = chosen === instance ? null : instance;
  shown = STEPS[0];
  toolbar();
  quietly(list());
  for (const item of $('feed').children) hide(item);
}

/** What depends on the chosen instance and its numbers. */
function toolbar() {
  for (const [instance, tile] of tiles) {
    tile.element.classList.toggle('chosen', !alone && instance === chosen);
    tile.pick.ariaPressed = String(instance === chosen);
  }
  say($('sessions-title'), chosen === null ? 'Sessions' : `Sessions of instance ${chosen}`);
  $('all').hidden = alone || chosen === null;
  $('end-all').hidden = chosen === null;
  $('end-all').disabled = !tiles.get(chosen)?.now?.live;
}

$('all').onclick = () => {
  choose(chosen);
  $('search').focus();
};

$('end-all').onclick = async () => {
  const instance = chosen;
  const live = tiles.get(instance).now.live;
  const sure = await confirmed(`End all sessions of instance ${instance}?`,
    `${plural(live, 'session')} will end. Their clients get 404 and may begin anew.`, 'End all');
  if (sure) act(async () => {
    const { ended } = await askJson(`sessions?instance=${instance}`, 'DELETE');
    return `${plural(ended, 'session')} of instance ${instance} ended.`;
  });
};

let silence;          // takes what was said away

/** Does something that the operator asked for, and says how it went. */
async function act(work) {
  say($('done'), await work().catch((error) => `That failed: ${error.message || 'the server cannot be reached'}`));
  clearTimeout(silence);
  silence = setTimeout(() => say($('done'), ''), 8000);
  notBefore = 0;
  look();
}

// ---- The list of sessions.

const rows = new Map();
let shown = STEPS[0];
let lists = 0;
let notBefore = 0;    // a list that takes long is asked for less often

async function list() {
  const number = lists += 1;
  const query = new URLSearchParams({ limit: shown, search: $('search').value });
  if (chosen !== null) query.set('instance', chosen);
  const began = performance.now();
  const answer = await askJson(`sessions?${query}`).catch((error) => {
    if (error instanceof Refused || error instanceof Missing) return { sessions: [], matched: 0, problem: error.message };
    throw error;
  });
  notBefore = performance.now() + 10 * (performance.now() - began);
  if (number !== lists) return;
  const { sessions, ended = [], matched, problem } = answer;
  // They come with the one used last first; newest first, none moves while it is looked at.
  sessions.sort((one, two) => one.age_seconds - two.age_seconds);
  const body = $('rows');
  const present = new Set(sessions.map((session) => session.ref));
  for (const [ref, row] of rows) {
    if (present.has(ref)) continue;
    if (row.element.contains(document.activeElement)) step(row.element, 1) || step(row.element, -1) || $('search').focus();
    row.element.remove();
    rows.delete(ref);
  }
  sessions.forEach((session, place) => {
    if (!rows.has(session.ref)) rows.set(session.ref, new Row(session));
    const { element } = rows.get(session.ref).show(session);
    if (body.children[place] !== element) body.insertBefore(element, body.children[place] ?? null);
  });
  const searching = $('search').value.trim() !== '';
  const some = matched > sessions.length ? `the ${whole(sessions.length)} of ${whole(matched)} used last` : whole(matched);
  say($('sessions-count'), matched > 1 ? `${some}, newest first` : some);
  $('list').hidden = sessions.length === 0;
  $('empty').hidden = sessions.length > 0;
  say($('empty'), problem ?? (searching ? 'No live session fits. Ended ones are found by reference or id.' : 'No live session.'));
  const curl = sessions.length || searching || problem ? null : curlLine();
  $('try').hidden = !curl;
  say($('curl'), curl ?? '');
  showEnded(ended);
  $('more').hidden = matched <= sessions.length || shown === STEPS.at(-1);
}

/** What begins a session where the page looks; null if that is served to no one. */
function curlLine() {
  const { policy } = tiles.get(chosen ?? 0)?.now ?? {};
  if (!policy?.protocol_versions.some((revision) => revision < '2026')) return null;
  const origin = clientsPort ? `http://${location.hostname}:${clientsPort}` : location.origin;
  const path = alone ? '/mcp' : `/echo-stateful${chosen ?? 0}/mcp`;
  const bearer = policy.auth === 'off' ? '' : ' -H "Authorization: Bearer $TOKEN"';
  const params = { protocolVersion: policy.protocol_versions.find((revision) => revision < '2026'), capabilities: {}, clientInfo: { name: 'curl', version: '1' } };
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params });
  return `curl -si ${origin}${path}${bearer} -H 'Content-Type: application/json' -d '${body}'`;
}

/** Sessions that have ended and are searched for. */
function showEnded(ended) {
  $('ended').hidden = ended.length === 0;
  const lines = ended.map(({ ref, instance, ended_at: at, reason, why }) => {
    const line = h('tr', {}, h('td', {}, alone ? null : badge(instance), ' ', opener(ref)), h('td', { className: 'mono' }, time(at)), h('td', {}, why));
    line.dataset.reason = reason;
    return line;
  });
  renew($('ended-rows'), ended, table([['Session'], ['Ended'], ['Why']], lines));
}

class Row {
  constructor({ ref, instance, client, label, protocol_version: revision }) {
    const open = (event) => {
      event.stopPropagation();
      detail.open(ref);
    };
    this.element = h('tr', { onclick: open });
    const cell = (className, name, ...children) => {
      const element = h('td', { className }, ...children);
      if (name) element.dataset.name = name;
      this.element.append(element);
      return element;
    };
    cell('', '', alone ? null : badge(instance), h('button', { className: 'ref', type: 'button', onclick: open }, ref));
    const who = cell('who', '', client ? client.name : h('span', { className: 'zero' }, 'no client named'),
      client ? h('small', {}, ` ${client.version}`) : null, label ? h('em', {}, label) : null);
    who.title = who.textContent;
    cell('hide', '', revision ?? 'any');
    this.calls = cell('n', 'calls');
    this.data = cell('n', 'data');
    this.streams = cell('n hide', 'streams');
    this.idle = cell('n', 'idle');
    this.expires = cell('n', 'expires in');
  }

  show(session) {
    const number = (element, count, text) => {
      say(element, text);
      element.classList.toggle('zero', count === 0);
    };
    number(this.calls, session.request_count, whole(session.request_count));
    number(this.data, session.data_keys, session.data_keys ? `${session.data_keys} · ${bytes(session.data_bytes)}` : '0');
    number(this.streams, session.open_streams, whole(session.open_streams));
    say(this.idle, span(session.idle_seconds));
    say(this.expires, expiry(session));
    return this;
  }
}

/** Focuses the session that stands so many places further. */
function step(row, places) {
  const all = [...$('rows').children];
  const next = all[all.indexOf(row) + places]?.querySelector('button');
  next?.focus();
  return Boolean(next);
}

$('rows').addEventListener('keydown', (event) => {
  const row = event.target.closest('tr');
  const places = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!places) return;
  event.preventDefault();
  if (!step(row, places) && places < 0) $('search').focus();
});

let typing;
$('search').oninput = () => {
  clearTimeout(typing);
  shown = STEPS[0];
  typing = setTimeout(() => quietly(list()), 150);
};
$('search').onkeydown = (event) => {
  if (event.key !== 'ArrowDown') return;
  event.preventDefault();
  $('rows').querySelector('button')?.focus();
};
$('more').onclick = () => {
  shown = STEPS.find((step) => step > shown) ?? shown;
  quietly(list());
};

document.addEventListener('keydown', (event) => {
  const typed = event.target.matches('input') || event.ctrlKey || event.metaKey || event.altKey;
  if (event.key !== '/' || typed || $('page').hidden || document.querySelector('dialog[open]')) return;
  event.preventDefault();
  $('search').focus();
  $('search').select();
});

// ---- One session.

const detail = {
  ref: null,
  opener: null,
  lists: '',

  async open(ref) {
    [detail.ref, detail.opener, detail.lists] = [ref, document.activeElement, ''];
    $('detail-title').replaceChildren(h('code', {}, ref));
    for (const part of ['facts', 'data', 'requests']) $(`detail-${part}`).replaceChildren();
    $('detail-gone').hidden = true;
    $('detail-end').disabled = false;
    $('detail-stored').hidden = false;
    $('detail').showModal();
    await quietly(detail.refresh());
  },

  async refresh() {
    const { ref } = detail;
    if (!ref || $('detail-end').disabled) return;
    try {
      const session = await askJson(`sessions/${ref}`);
      if (ref !== detail.ref) return;
      if (session.ended_at) detail.showEnded(session);
      else detail.show(session);
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      detail.gone('There is no such session here: it is another server\'s, or ended too long ago to be remembered.');
    }
  },

  gone(text) {
    $('detail-gone').hidden = false;
    say($('detail-gone'), text);
    $('detail-end').disabled = true;
    $('detail-stored').hidden = $('detail-data').childElementCount === 0;
  },

  showEnded({ ref, instance, ended_at: at, why, requests }) {
    const seen = $('detail-facts').childElementCount > 0;
    $('detail-title').replaceChildren(badge(instance), h('code', {}, ref));
    detail.gone(`This session ended at ${time(at)}: ${why}.${seen ? ' What you see is what it was.' : ''}`);
    detail.showRequests(requests);
  },

  show(session) {
    $('detail-title').replaceChildren(badge(session.instance), h('code', {}, session.ref));
    const facts = {
      Client: session.client ? `${session.client.name} ${session.client.version}` : 'no client named',
      Label: session.label,
      Revision: session.protocol_version ?? 'any',
      Handshake: session.initialized ? 'completed' : 'not completed',
      Calls: whole(session.request_count),
      'Open streams': `${whole(session.open_streams)}${session.open_here ? '' : ', as far as this replica knows'}`,
      Began: `${time(session.created_at)}, ${span(session.age_seconds)} ago`,
      Idle: span(session.idle_seconds),
      'Expires in': expiry(session),
      Data: `${plural(session.data_keys, 'key')}, ${bytes(session.data_bytes)}`,
    };
    $('detail-facts').replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null)
      .map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
    const lists = JSON.stringify([session.data, session.requests]);
    if (lists === detail.lists) return;
    detail.lists = lists;
    const keys = session.data.map(({ key, bytes: size }) =>
      h('tr', {}, h('td', { className: 'key mono' }, key), h('td', { className: 'n' }, bytes(size))));
    $('detail-data').replaceChildren(keys.length ? table([['Key'], ['Bytes', 'n']], keys) : h('p', {}, 'No data is stored.'));
    detail.showRequests(session.requests);
  },

  showRequests(last) {
    const requests = last.map((request) => h('tr', { className: request.error ? 'error' : '' },
      h('td', { className: 'mono' }, time(request.at)),
      h('td', {}, request.tool ?? request.rpc_method ?? request.http_method),
      h('td', { className: 'n code' }, request.status || '–'),
      h('td', { className: 'how' }, request.outcome, request.why ? h('small', {}, ` ${request.why}`) : null),
      h('td', { className: 'n' }, took(request.duration_us)),
      h('td', { className: 'id mono' }, request.request_id)));
    const columns = [['Time'], ['What'], ['Status', 'n code'], ['Outcome'], ['Took', 'n'], ['Request id', 'id']];
    $('detail-requests').replaceChildren(requests.length ? table(columns, requests)
      : h('p', {}, 'None of its requests is among the last that the instance remembers.'));
  },
};

$('detail').onclose = () => {
  detail.ref = null;
  const { opener: from } = detail;
  (from?.isConnected ? from : $('search')).focus();
};
$('detail-close').onclick = () => $('detail').close();
$('detail-end').onclick = async () => {
  const { ref } = detail;
  const sure = await confirmed('End this session?', `The next request of ${ref} gets 404, and its streams are closed.`, 'End session');
  if (!sure) return;
  $('detail').close();
  act(async () => {
    await ask(`sessions/${ref}`, 'DELETE');
    return `Session ${ref} ended.`;
  });
};
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
}

/** Whether the operator is sure. */
function confirmed(title, text, yes) {
  say($('confirm-title'), title);
  say($('confirm-text'), text);
  say($('confirm-yes'), yes);
  const dialog = $('confirm');
  dialog.showModal();
  // Each question has its own answer: that a dialog was closed is told later, when it may be open again.
  return new Promise((resolve) => {
    const answer = (sure) => {
      dialog.close();
      resolve(sure);
    };
    $('confirm-yes').onclick = () => answer(true);
    $('confirm-no').onclick = () => answer(false);
    dialog.oncancel = () => resolve(false);
  });
}

// ---- The feed of events.

let paused = null;    // events that wait while the feed is paused
let unread = {};      // what a screen reader has not been told yet

/** Follows the event stream until the token is forgotten. A page's EventSource could not send it. */
async function follow(signal) {
  let last;
  while (!signal.aborted) {
    try {
      const headers = last ? { 'Last-Event-ID': last } : {};
      const response = await ask('events', 'GET', { headers, signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ''; ;) {
        const { done, value } = await reader.read();
        if (done) break;
        const frames = (text + value).split('\n\n');
        text = frames.pop();
        const events = [];
        for (const frame of frames) {
          for (const line of frame.split('\n')) {
            if (line.startsWith('id: ')) last = line.slice(4);
            if (line.startsWith('data: ')) events.push(JSON.parse(line.slice(6)));
          }
        }
        addEvents(events);
        if (events.some((event) => event.event === 'draining')) look();
      }
    } catch {
      // As above.
    }
    // Not before the server has been seen again, and not at once.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (!signal.aborted) await new Promise((resolve) => wakers.push(resolve));
  }
}

function addEvents(events) {
  if (events.length === 0) return;
  for (const { event } of events) unread[event] = (unread[event] ?? 0) + 1;
  if (paused) {
    paused = [...paused, ...events].slice(-FEED_ROWS);
    say($('pause'), `Resume (${paused.length})`);
    return;
  }
  const items = events.slice(-FEED_ROWS).reverse().map(item);
  $('feed').prepend(...items);
  while ($('feed').childElementCount > FEED_ROWS) $('feed').lastElementChild.remove();
  $('feed-empty').hidden = true;
}

function item({ event, at, instance, session, reason, count }) {
  const [sign, text] = EVENTS[event] ?? ['·', event];
  const words = event === 'missed' ? `${whole(count)} ${text}` : reason ? `${text}, ${REASONS[reason] ?? reason}` : text;
  const from = h('span', { className: 'from' }, instance == null ? null : badge(instance));
  if (session) from.append(opener(session));
  const element = h('li', { className: 'fresh' },
    h('time', {}, at ? time(at) : ''), h('span', { className: 'sign', ariaHidden: 'true' }, sign), h('span', {}, words), from);
  element.dataset.event = event;
  if (reason) element.dataset.reason = reason;
  if (instance != null) element.dataset.instance = instance;
  hide(element);
  return element;
}

/** Events of other instances than the chosen one are out of sight. */
function hide(element) {
  const { instance } = element.dataset;
  element.hidden = chosen !== null && instance !== undefined && Number(instance) !== chosen;
}

$('pause').onclick = () => {
  const waiting = paused;
  paused = waiting ? null : [];
  $('pause').ariaPressed = String(!waiting);
  say($('pause'), waiting ? 'Pause' : 'Resume');
  if (waiting) addEvents(waiting);
};

// A busy server would talk without end, so a screen reader gets a sum now and then.
setInterval(() => {
  const parts = Object.entries(unread).map(([event, count]) => `${EVENTS[event]?.[1] ?? event}: ${count}`);
  unread = {};
  if (parts.length && !$('page').hidden) say($('announce'), parts.join('. '));
}, 15000);

// ---- The beginning.

$('leave').onclick = () => leave();
$('login-form').onsubmit = (event) => {
  event.preventDefault();
  token = $('token').value.trim();
  enter();
};
addEventListener('hashchange', () => takeFragment() && enter());

if (!takeFragment()) token = sessionStorage.getItem('token') ?? '';
if (token) enter();
else leave();
