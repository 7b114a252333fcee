import "./bars.css";

export interface Day {
  day: string;
  tokens: number;
}

interface Row {
  day?: string | null;
  prompt_tokens: number;
  completion_tokens: number;
}

const DAY_MS = 86_400_000;

/** Returns every day (UTC) from one instant to another: what used nothing is left out of an answer. */
export function perDay(rows: Row[], from: string, to: string): Day[] {
  const used = new Map(rows.map((row) => [row.day, row.prompt_tokens + row.completion_tokens]));
  const days: Day[] = [];
  for (let at = Math.floor(Date.parse(from) / DAY_MS) * DAY_MS; at < Date.parse(to); at += DAY_MS) {
    const day = new Date(at).toISOString().slice(0, 10);
    days.push({ day, tokens: used.get(day) ?? 0 });
  }
  return days;
}

/** A bar for each day; who cannot see them reads the table. */
export function Bars({ days }: { days: Day[] }) {
  const most = Math.max(1, ...days.map(({ tokens }) => tokens));
  return (
    <figure className="bars">
      <svg viewBox={`0 0 ${days.length * 10} 100`} preserveAspectRatio="none" aria-hidden>
        {days.map(({ day, tokens }, index) => (
          <rect key={day} x={index * 10 + 1} y={100 - (100 * tokens) / most} width={8} height={(100 * tokens) / most}>
            <title>{`${day}: ${tokens.toLocaleString()} tokens`}</title>
          </rect>
        ))}
      </svg>
      <figcaption className="soft">
        <span>{days[0]?.day}</span>
        <span>at most {most.toLocaleString()} tokens a day</span>
        <span>{days.at(-1)?.day}</span>
      </figcaption>
      <details>
        <summary>As a table</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Day (UTC)</th>
              <th scope="col">Tokens</th>
            </tr>
          </thead>
          <tbody>
            {days
              .filter(({ tokens }) => tokens > 0)
              .map(({ day, tokens }) => (
                <tr key={day}>
                  <td>{day}</td>
                  <td>{tokens.toLocaleString()}</td>
                </tr>
              ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}
