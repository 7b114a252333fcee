import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { X } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { api, unwrap } from "../api/client";
import { messageOf } from "../api/problem";
import { count } from "../lib/format";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Page";

/** So many names are looked through. */
const NAMES = 10_000;

interface Match {
  path: string;
  line?: number;
  text?: string;
}

async function inText(instance: string, path: string, query: string): Promise<{ matches: Match[]; about: string }> {
  const params = { path: { id: instance }, query: { path, query, ignore_case: true } };
  const { matches, truncated, files_searched } = await unwrap(api.GET("/api/instances/{id}/files/search", { params }));
  const found = count(matches.length, "match", "matches");
  return { matches, about: `${truncated ? "The first " : ""}${found} in ${count(files_searched, "file")}` };
}

async function inNames(instance: string, path: string, query: string): Promise<{ matches: Match[]; about: string }> {
  const params = { path: { id: instance }, query: { path, recursive: true, limit: NAMES } };
  const entries = await unwrap(api.GET("/api/instances/{id}/files", { params }));
  const matches = entries.filter(({ name }) => name.toLowerCase().includes(query.toLowerCase()));
  return { matches, about: `${count(matches.length, "match", "matches")} in ${entries.length === NAMES ? "the first " : ""}${count(entries.length, "name")}` };
}

/** A search for text in the files below a directory, or for their names. */
export function Found({ instance, path, onClose }: { instance: string; path: string; onClose: () => void }) {
  const [{ query, names }, setWanted] = useState({ query: "", names: false });
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const { data, error, isFetching } = useQuery({
    queryKey: ["search", instance, path, query, names],
    queryFn: () => (names ? inNames : inText)(instance, path, query),
    enabled: query !== "",
  });
  return (
    <div className="found">
      <form
        role="search"
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          setWanted({ query: text(form, "query"), names: form.get("where") === "names" });
        }}
      >
        <input ref={field} type="search" name="query" aria-label="What to look for" placeholder="In files below here" />
        <select name="where" aria-label="Where to look">
          <option value="text">Text</option>
          <option value="names">File names</option>
        </select>
        <Button type="submit" size="small">
          Search
        </Button>
        <IconButton size="small" label="Close the search" icon={<X aria-hidden />} onClick={onClose} />
      </form>
      {isFetching && <Spinner label="Searching" />}
      {error && <Notice kind="bad">{messageOf(error)}</Notice>}
      {data && !isFetching && (
        <>
          <p className="soft" role="status">
            {data.about}
          </p>
          <ul>
            {data.matches.map((match, index) => (
              <li key={index}>
                <Link to="/instances/$id/files" params={{ id: instance }} search={{ file: match.path, ...(match.line === undefined ? {} : { line: match.line }) }}>
                  {match.path}
                  {match.line !== undefined && `:${match.line}`}
                </Link>
                {match.text !== undefined && <code>{match.text.trim()}</code>}
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
