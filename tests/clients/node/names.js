/**
 * Makes every name under localhost and example.com lead to this machine, as DNS does for the page's readers.
 * So the SDKs are given real URLs, keep their own fetch and send real Host headers.
 */
import dns from 'node:dns';

const lookup = dns.lookup;

dns.lookup = (host, ...rest) => lookup(/\.(localhost|example\.com)$/.test(host) ? '127.0.0.1' : host, ...rest);
