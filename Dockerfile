# syntax=docker/dockerfile:1
# The sidecar in an image of its own: one binary, the CA certificates, an unprivileged user.
#
#   docker run --read-only --cap-drop ALL -v ./outrider:/etc/outrider:ro -v outrider:/var/lib/outrider IMAGE

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package outrider \
    && install --strip target/release/outrider /usr/local/bin/outrider
# What the sidecar writes: the decision log below /var/lib, the control socket below /run.
RUN install -d -o 65532 -g 65532 -m 0700 /image/var/lib/outrider \
    && install -d -o 65532 -g 65532 -m 0755 /image/run/outrider

# glibc, libgcc, CA certificates, a user 65532 and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/outrider /usr/local/bin/outrider
COPY --from=build /src/LICENSE /usr/share/doc/outrider/LICENSE
COPY --from=build /image/ /
USER 65532:65532
WORKDIR /etc/outrider
VOLUME ["/var/lib/outrider", "/run/outrider"]
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
    CMD ["/usr/local/bin/outrider", "health", "-c", "/etc/outrider/outrider.yaml"]
ENTRYPOINT ["/usr/local/bin/outrider"]
CMD ["run", "-c", "/etc/outrider/outrider.yaml"]
