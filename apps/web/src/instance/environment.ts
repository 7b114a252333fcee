import { ApiProblem } from "../api/problem";

/** Reads `NAME=value` lines; empty ones and those that begin with `#` are left out. */
export function parseEnvironment(text: string): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === "" || line.trimStart().startsWith("#")) continue;
    const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (!match) {
      const fields = [{ field: "env", message: `line ${index + 1} is not of the form NAME=value` }];
      throw new ApiProblem(422, { error: { code: "INVALID_REQUEST", details: { fields } } });
    }
    env[match[1] ?? ""] = match[2] ?? "";
  }
  return env;
}
