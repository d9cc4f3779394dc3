// The requests that failed: of one instance, of none, or all. A tile's red leads here.

const who = (by) => (by ? [by.instance == null ? 'no instance' : badge(by.instance), ` ${by.replica_tag}/${by.boot}`] : ['–']);

const failed = {
  of: undefined,      // an instance, 'none', or null for all

  async open(of) {
    failed.of = of;
    say($('failures-title'), of === null ? 'Failed requests' : of === 'none' ? 'Refused before they reached an instance' : `Failed requests of instance ${of}`);
    delete $('failures-list').dataset.key;
    $('failures-list').replaceChildren();
    $('failures').showModal();
    await quietly(failed.refresh());
  },

  async refresh() {
    const { of } = failed;
    if (of === undefined) return;
    const query = new URLSearchParams({ limit: 200, ...(of !== null && { instance: of }) });
    const { failures, total } = await askJson(`failures?${query}`);
    if (of !== failed.of) return;
    say($('failures-count'), failures.length < total ? `the last ${whole(failures.length)} of ${whole(total)}` : whole(total));
    const lines = failures.map((request) => {
      const { status, outcome, host, peer, instance } = request;
      const more = [status || 'no answer', outcome, instance == null ? host : null, `from ${peer}`];
      const line = h('tr', {}, h('td', { className: 'mono' }, time(request.at)));
      const cell = (name, className, ...children) => {
        line.append(h('td', { className, 'data-name': name }, ...children));
      };
      cell('served by', 'mono', ...who(request.served_by));
      cell('', 'what', request.rpc_method ?? `${request.http_method} ${request.path}`, request.tool ? h('small', {}, ` ${request.tool}`) : null);
      cell('', 'why', `${request.why} `, h('small', {}, more.filter(Boolean).join(' · ')));
      cell('session', '', request.session ? opener(request.session) : '–');
      cell('id minted by', 'mono', ...who(request.minted_by));
      cell('', 'id mono', request.request_id);
      return line;
    });
    const columns = [['Time'], ['Served by'], ['What'], ['Why'], ['Session'], ['Id minted by'], ['Request id', 'id']];
    renew($('failures-list'), failures, lines.length ? table(columns, lines) : h('p', {}, 'None is remembered.'));
  },
};

$('failures').onclose = () => { failed.of = undefined; };
$('failures-close').onclick = () => $('failures').close();
$('all-failed').onclick = () => failed.open(null);
$('refused').onclick = () => failed.open('none');

