type Details = Record<string, unknown>;
/** The body of an error, as far as it is needed here. */
interface Given {
  message?: string;
  request_id?: string;
  error?: { code: string; details?: Details };
}

/** An answer that is an error, or none at all (`status` 0). Its message says what to do. */
export class ApiProblem extends Error {
  readonly status: number;
  readonly code: string;
  readonly details: Details;
  readonly requestId: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(status: number, body?: Given, retryAfter?: number) {
    super(body?.message ?? (status === 0 ? UNREACHABLE : `The server answered ${status}. Try again in a moment.`));
    this.name = "ApiProblem";
    this.status = status;
    this.code = body?.error?.code ?? "";
    this.details = body?.error?.details ?? {};
    this.requestId = body?.request_id;
    this.retryAfter = retryAfter;
  }

  /** What is wrong with each field, by its name. */
  get fields(): Record<string, string> {
    const fields = this.details["fields"];
    if (!Array.isArray(fields)) return {};
    return Object.fromEntries((fields as { field: string; message: string }[]).map((f) => [f.field, sentence(f.message)]));
  }

  get reason(): string | undefined {
    const reason = this.details["reason"];
    return typeof reason === "string" ? reason : undefined;
  }
}

const UNREACHABLE = "Reef cannot be reached. Check your connection; what you wrote is kept.";

/** Reads the error of an answer. */
export async function problemOf(response: Response): Promise<ApiProblem> {
  const body = await response.json().catch(() => undefined) as Given | undefined;
  return new ApiProblem(response.status, body, seconds(response));
}

export function seconds(response: Response): number | undefined {
  const value = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(value) ? value : undefined;
}

/** Returns the message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
