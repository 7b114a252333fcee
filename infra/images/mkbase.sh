#!/usr/bin/env bash
# Makes the base images from Debian's own archive, with no image registry:
#   reef-base:bookworm   Debian 12, minimal, as debian:bookworm-slim
#   reef-base:dev        the same, trusting this machine's CA bundle, so that npm and pip work while
#                        building behind an inspecting proxy; for tests and development only
# Skipped when they exist and the bundle is still the same.
set -euo pipefail
. "$(dirname "$0")/../setup/lib.sh"
. "$(dirname "$0")/lib.sh"

plain=reef-base:bookworm
dev=reef-base:dev
store=$CACHE/base
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# What Debian's slim images do, so that no layer carries package caches or documentation.
slim() {
    local root=$1 suite
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin \
        "$root"/usr/share/{doc,man,info,locale}/* "$root"/var/log/*.log
    echo 'DPkg::Post-Invoke {"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true";}; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' \
        >"$root/etc/apt/apt.conf.d/docker-clean"
    echo 'Acquire::Languages "none";' >"$root/etc/apt/apt.conf.d/docker-no-languages"
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
    printf 'path-exclude /usr/share/%s/*\n' doc man info locale >"$root/etc/dpkg/dpkg.cfg.d/docker-slim"
    for suite in bookworm bookworm-updates; do
        echo "deb http://deb.debian.org/debian $suite main"
    done >"$root/etc/apt/sources.list"
    echo "deb http://deb.debian.org/debian-security bookworm-security main" >>"$root/etc/apt/sources.list"
}

if ! has_image "$plain"; then
    tarball=$store/bookworm.tar
    if [ ! -s "$tarball" ]; then
        [ "$(id -u)" = 0 ] || die "making a base image needs root" "make images BASE=debian:bookworm-slim"
        have debootstrap || die "debootstrap is missing" "sudo apt-get install debootstrap"
        mkdir -p "$store"
        work=$(mktemp -d "$store/.new.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        run_quietly "fetching a minimal Debian 12" "$store/debootstrap.log" \
            debootstrap --variant=minbase bookworm "$work/root" http://deb.debian.org/debian
        slim "$work/root"
        tar -C "$work/root" -c --one-file-system -f "$work/bookworm.tar" .
        mv "$work/bookworm.tar" "$tarball"
    fi
    docker import --change 'CMD ["bash"]' "$tarball" "$plain" >/dev/null
    say "made $plain"
fi

bundle_sum=$(sha256sum "$bundle" | cut -c1-16)
if [ "$(docker image inspect -f '{{index .Config.Labels "reef.ca"}}' "$dev" 2>/dev/null)" != "$bundle_sum" ]; then
    context=$(mktemp -d)
    trap 'rm -rf "$context" ${work:+"$work"}' EXIT
    cp "$bundle" "$context/ca.crt"
    certificate=/usr/local/share/ca-certificates/zz-build-host.crt
    cat >"$context/Dockerfile" <<EOF
FROM $plain
COPY ca.crt $certificate
ENV NODE_EXTRA_CA_CERTS=$certificate PIP_CERT=$certificate
LABEL reef.ca=$bundle_sum
EOF
    docker build -q -t "$dev" "$context" >/dev/null 2>&1 || die "making $dev failed" "docker build $context"
    say "made $dev"
fi
