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

/** A search for text in the files below a directory. */
export function Found({ instance, path, onClose }: { instance: string; path: string; onClose: () => void }) {
  const [query, setQuery] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const { data, error, isFetching } = useQuery({
    queryKey: ["search", instance, path, query],
    queryFn: () =>
      unwrap(api.GET("/api/instances/{id}/files/search", { params: { path: { id: instance }, query: { path, query, ignore_case: true } } })),
    enabled: query !== "",
  });
  return (
    <div className="found">
      <form
        role="search"
        className="filters"
        onSubmit={(event) => {
          event.preventDefault();
          setQuery(text(new FormData(event.currentTarget), "query"));
        }}
      >
        <input ref={field} type="search" name="query" aria-label="Text to look for" placeholder="Text in files below here" />
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
            {data.truncated ? "The first " : ""}
            {count(data.matches.length, "match", "matches")} in {count(data.files_searched, "file")}
          </p>
          <ul>
            {data.matches.map((match, index) => (
              <li key={index}>
                <Link to="/instances/$id/files" params={{ id: instance }} search={{ file: match.path }}>
                  {match.path}:{match.line}
                </Link>
                <code>{match.text.trim()}</code>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}
