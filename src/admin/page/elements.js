// What the server says is put into the page as text, never as markup: names of clients are anybody's words.

const $ = (id) => document.getElementById(id);

/** An element with properties and children. */
function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function svg(name, properties) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(properties)) element.setAttribute(key, value);
  return element;
}

/** Sets a text that differs, so that what stays the same is not touched. */
function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

const whole = (number) => number.toLocaleString('en');
const rate = (number) => (number === 0 ? '0' : number < 10 ? number.toFixed(1) : whole(Math.round(number)));
const plural = (count, thing) => `${whole(count)} ${thing}${count === 1 ? '' : 's'}`;
const time = (at) => new Date(at).toLocaleTimeString('en-GB');
const badge = (instance) => h('span', { className: 'badge', title: `Instance ${instance}` }, String(instance));
const opener = (ref) => h('button', { className: 'ref', type: 'button', onclick: () => detail.open(ref) }, ref);

function bytes(count) {
  const unit = ['B', 'kB', 'MB', 'GB'];
  let step = 0;
  for (; count >= 1000 && step < 3; step += 1) count /= 1000;
  return `${step && count < 10 ? count.toFixed(1) : Math.round(count)} ${unit[step]}`;
}

function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.floor(seconds / 60) % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const expiry = (session) => (session.open_streams ? 'in use' : span(session.expires_in_seconds));
const took = (us) => (us < 1000 ? `${us} µs` : us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : span(us / 1e6));

function table(columns, lines) {
  const head = columns.map(([name, className]) => h('th', { scope: 'col', className: className ?? '' }, name));
  return h('table', {}, h('thead', {}, h('tr', {}, ...head)), h('tbody', {}, ...lines));
}

/** Replaces a table, unless somebody is in it. */
function renew(element, key, ...children) {
  const text = JSON.stringify(key);
  if (element.dataset.key === text || element.contains(document.activeElement)) return;
  element.dataset.key = text;
  element.replaceChildren(...children);
}

