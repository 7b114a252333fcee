import { infiniteQueryOptions, useInfiniteQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Page";
import { unwrap } from "./client";
import { messageOf } from "./problem";

const PAGE = 50;

/** What one page of a list is asked for with. */
export interface PageQuery {
  limit: number;
  cursor?: string;
}

/** A list that is longer than a page; each page says in a header where the next one begins. */
export function pagesOf<T>(key: unknown[], ask: (query: PageQuery) => Promise<{ data?: T[]; error?: unknown; response: Response }>) {
  return infiniteQueryOptions({
    queryKey: key,
    queryFn: async ({ pageParam }) => {
      const call = ask(pageParam === null ? { limit: PAGE } : { limit: PAGE, cursor: pageParam });
      return { rows: await unwrap(call), next: (await call).response.headers.get("x-next-cursor") };
    },
    initialPageParam: null as string | null,
    getNextPageParam: ({ next }) => next,
  });
}

/** Shows such a list as rows, and on request more of it. */
export function Pages<T extends { id: string }>({
  of,
  none,
  children,
}: {
  of: ReturnType<typeof pagesOf<T>>;
  none: string;
  children: (row: T) => ReactNode;
}) {
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(of);
  const rows = data?.pages.flatMap((page) => page.rows);
  return (
    <>
      {error && <Notice kind="bad">{messageOf(error)}</Notice>}
      {rows ? (
        <ul className="rows">
          {rows.map((row) => (
            <li key={row.id}>{children(row)}</li>
          ))}
        </ul>
      ) : (
        !error && <Spinner />
      )}
      {rows?.length === 0 && <p className="soft">{none}</p>}
      {hasNextPage && (
        <footer>
          <Button busy={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Show more
          </Button>
        </footer>
      )}
    </>
  );
}
