# syntax=docker/dockerfile:1
# The sidecar in an image of its own: one binary, the CA certificates, nft for `outrider net apply` in an init
# container, an unprivileged user. nft is in the same image, so that a cluster has one to trust and to mirror: it is
# 2.4 MB, and without CAP_NET_ADMIN, which the sidecar itself never has, it can do nothing.
# Both bases are arguments: a mirror of your own, pinned by digest.
#
#   docker build -t outrider .
#   docker run --read-only --cap-drop ALL -v ./outrider:/etc/outrider:ro -v outrider:/var/lib/outrider outrider
ARG BUILDER=rust:1.95-slim-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER} AS build
RUN apt-get update && apt-get install -y --no-install-recommends nftables && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package outrider \
    && install -D --strip target/release/outrider /image/usr/local/bin/outrider
# nft with the libraries that the base does not have, and of each package what scanners and lawyers look for.
RUN set -e; install -D /usr/sbin/nft /image/usr/sbin/nft; \
    mkdir -p /image/var/lib/dpkg/status.d; \
    for file in /usr/sbin/nft $(ldd /usr/sbin/nft | awk '$2 == "=>" { print $3 }' | grep -v -E '/lib(c|m|gcc_s)\.so'); do \
        [ "$file" = /usr/sbin/nft ] || install -D -m 0644 -t "/image/usr/lib/$(basename "$(dirname "$file")")" "$file"; \
        package=$(dpkg-query --search "*/$(basename "$file")" | sed -n '1s/:.*//p'); \
        dpkg-query --status "$package" >"/image/var/lib/dpkg/status.d/$package"; \
        install -D -m 0644 -t "/image/usr/share/doc/$package" "/usr/share/doc/$package/copyright"; \
    done
# What the sidecar writes: the decision log below /var/lib, the control socket below /run. What it reads is not its own.
RUN install -d -o 65532 -g 65532 -m 0700 /image/var/lib/outrider \
    && install -d -o 65532 -g 65532 -m 0755 /image/run/outrider \
    && install -d -m 0755 /image/etc/outrider

# glibc, libgcc, CA certificates, a user 65532 and nothing else: no shell, no package manager.
FROM ${RUNTIME}
COPY --from=build /image/ /
COPY LICENSE /usr/share/doc/outrider/LICENSE
USER 65532:65532
WORKDIR /etc/outrider
VOLUME ["/var/lib/outrider", "/run/outrider"]
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
    CMD ["/usr/local/bin/outrider", "health", "-c", "/etc/outrider/outrider.yaml"]
ENTRYPOINT ["/usr/local/bin/outrider"]
CMD ["run", "-c", "/etc/outrider/outrider.yaml"]
