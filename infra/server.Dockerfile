# The control plane: `reef serve`, compiled outside (see infra/images/build.sh) and copied in last.
#
# It runs as root, with the capabilities that infra/compose.yaml leaves it: it owns the Engine's socket,
# the firewall rules of the instance networks, and the run directories of the instances.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl iptables \
    && rm -rf /var/lib/apt/lists/*
ENV REEF_DATA_DIR=/var/lib/reef LANG=C.UTF-8
ENTRYPOINT ["/usr/local/bin/reef"]
CMD ["serve"]
ARG BINARY=target/dist/reef
COPY ${BINARY} /usr/local/bin/reef
