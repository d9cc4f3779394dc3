# The page's scripts stay as printed and say https://echo-stateful….example.com. This stands in for the DNS, the
# certificate and the proxy in front: the same names and Host headers, by plain HTTP, at the server under test.
curl() {
  command curl --connect-to "::127.0.0.1:$ECHO_PORT" --write-out '%{stderr}status=%{http_code}\n' "${@/#https:\/\//http://}"
}
