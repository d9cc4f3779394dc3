# syntax=docker/dockerfile:1
# Builds with docker and with podman: no heredoc, no COPY --link and no ADD --checksum, which buildah 1.28 lacks.

ARG RUST_IMAGE=docker.io/library/rust:1-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY config config
COPY src src
# crt-static makes a binary that needs no file beside it. The explicit --target keeps the flag away from build scripts
# and proc macros, which cannot be static. The other two are for size: symbols are
# megabytes that only a backtrace would need, and relocations of a static binary pack well.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    triple="$(rustc --print host-tuple)" \
    && RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols -C link-arg=-Wl,-z,pack-relative-relocs" \
        cargo build --profile dist --locked --target "$triple" \
    && install -D -m 0555 "target/$triple/dist/mcp-echo-stateful" /out/mcp-echo-stateful \
    && install -D -m 0444 /etc/ssl/certs/ca-certificates.crt /out/ca-certificates.crt \
    && install -d /out/logs

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcp-echo-stateful" \
      org.opencontainers.image.description="Ten isolated stateful MCP test servers in one process" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY --from=build /out/mcp-echo-stateful /mcp-echo-stateful
# Whom to trust, for a store at rediss:// and for `probe https://…`, where it is looked for unless SSL_CERT_FILE says otherwise.
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# A new named volume takes the owner of the directory that it is mounted on: this makes one at /logs writable.
COPY --from=build --chown=65532:65532 /out/logs /logs
# By number, so that an orchestrator can tell without a passwd file that it is not root.
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=2s --retries=3 CMD ["/mcp-echo-stateful", "healthcheck"]
ENTRYPOINT ["/mcp-echo-stateful"]
