import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 60_000;
export const OPERATOR = { email: "operator@reef.test", password: "a-long-operator-password" };

/** A `reef serve` in a directory of its own. */
export class Platform {
  readonly #dir: string;
  readonly #child: ChildProcess;
  #output = "";
  readonly origin: string;

  private constructor(dir: string, port: number, instanceBin: string) {
    this.#dir = dir;
    this.origin = `http://127.0.0.1:${port}`;
    this.#child = spawn(required("REEF_BIN"), ["serve"], {
      env: {
        ...process.env,
        REEF_LISTEN: `127.0.0.1:${port}`,
        REEF_DATA_DIR: join(dir, "data"),
        REEF_ADMIN_EMAIL: OPERATOR.email,
        REEF_ADMIN_PASSWORD: OPERATOR.password,
        REEF_INSTANCE_BIN: instanceBin,
        REEF_RATE_LIMITS: "false",
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => (this.#output += text));
    }
  }

  /** Starts one whose instances are `door.ts`, ready at once; or real ones. */
  static async start(kind: "scripted" | "real" = "scripted"): Promise<Platform> {
    const dir = mkdtempSync(join(tmpdir(), "reef-web-"));
    const platform = new Platform(dir, await freePort(), kind === "real" ? required("REEF_INSTANCE_BIN") : scripted(dir));
    const end = Date.now() + PATIENCE_MS;
    while (!(await fetch(`${platform.origin}/readyz`).then((r) => r.ok, () => false))) {
      if (platform.#child.exitCode !== null || Date.now() > end) throw new Error(`reef does not start:\n${platform.#output}`);
      await sleep(50);
    }
    return platform;
  }

  /** Makes an invite code, as the operator does. */
  async invite(): Promise<string> {
    const post = (path: string, body: unknown, cookie = "") =>
      fetch(this.origin + path, {
        method: "POST",
        headers: { "content-type": "application/json", origin: this.origin, cookie },
        body: JSON.stringify(body),
      });
    const cookie = (await post("/api/auth/login", OPERATOR)).headers.get("set-cookie")?.split(";")[0];
    const made = (await (await post("/api/admin/invites", { max_uses: 10 }, cookie)).json()) as { code: string };
    return made.code;
  }

  /** Returns the newest link to a page of the app that was mailed; without a mail server mails go to the log. */
  async mailed(page: string): Promise<string> {
    const end = Date.now() + PATIENCE_MS;
    const link = new RegExp(`${this.origin}${page}\\?token=[\\w.~-]+`, "g");
    while (Date.now() < end) {
      const found = this.#output.match(link)?.at(-1);
      if (found) return found;
      await sleep(50);
    }
    throw new Error(`no mail with ${page}:\n${this.#output}`);
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    if (this.#child.exitCode === null) await once(this.#child, "exit");
    // Instances outlive the server on purpose: those of this directory are ended here.
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(this.#dir)) process.kill(Number(pid), "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

function scripted(dir: string): string {
  const bin = join(dir, "reef-instance");
  writeFileSync(bin, `#!/bin/sh\nexec '${process.execPath}' '${join(import.meta.dirname, "door.ts")}' "$@"\n`);
  chmodSync(bin, 0o755);
  return bin;
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run infra/setup/web.sh test`);
  return value;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
