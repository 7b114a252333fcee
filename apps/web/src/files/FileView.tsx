import "./files.css";

import { useQuery } from "@tanstack/react-query";
import { useBlocker } from "@tanstack/react-router";
import { Download, FileQuestion, Save } from "lucide-react";
import { lazy, Suspense, useEffect, useMemo, useState } from "react";

import { api, unwrap } from "../api/client";
import { ApiProblem, messageOf } from "../api/problem";
import { size, when } from "../lib/format";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { useToast } from "../ui/toast";
import { contentUrl, load, save, type Loaded } from "./content";
import { Trail } from "./FilesPage";
import { lookOf, nameOf } from "./paths";

const Editor = lazy(() => import("./Editor"));

/** One file: looked at, and changed where it is text. */
export function FileView({ instance, path }: { instance: string; path: string }) {
  const { data: entry, error } = useQuery({
    queryKey: ["files", instance, path, "stat"],
    queryFn: () => unwrap(api.GET("/api/instances/{id}/files/stat", { params: { path: { id: instance }, query: { path } } })),
  });
  const { look, type } = entry ? lookOf(nameOf(path), entry.size) : { look: "none" as const, type: "" };
  const [attempt, setAttempt] = useState(0);
  const content = useQuery({
    queryKey: ["content", instance, path, attempt],
    queryFn: ({ signal }) => load(instance, path, signal),
    enabled: entry !== undefined && look !== "none",
    // What is being changed is not changed underneath.
    staleTime: Infinity,
    gcTime: 0,
  });
  const problem = error ?? content.error;
  if (problem) {
    return (
      <Frame instance={instance} path={path}>
        <div className="page narrow">
          <Notice kind="bad">{messageOf(problem)}</Notice>
        </div>
      </Frame>
    );
  }
  if (!entry || (look !== "none" && !content.data)) {
    return (
      <Frame instance={instance} path={path}>
        <Spinner />
      </Frame>
    );
  }
  if (look === "text" && content.data) {
    return <TextFile key={attempt} instance={instance} path={path} loaded={content.data} onReload={() => setAttempt(attempt + 1)} />;
  }
  return (
    <Frame instance={instance} path={path} about={`${size(entry.size)} · ${when(entry.modified_at)}`}>
      {content.data ? (
        <Picture loaded={content.data} look={look} type={type} name={nameOf(path)} />
      ) : (
        <Empty icon={<FileQuestion />} title="This file cannot be shown here">
          <p>{size(entry.size)}. Download it to open it with a program of yours.</p>
        </Empty>
      )}
    </Frame>
  );
}

interface FrameProps {
  instance: string;
  path: string;
  about?: string;
  action?: React.ReactNode;
  children: React.ReactNode;
}

function Frame({ instance, path, about, action, children }: FrameProps) {
  return (
    <section className="workbench files" aria-label={nameOf(path)}>
      <div className="bar">
        <Trail instance={instance} path={path} />
        <span className="grow" />
        {about && <span className="soft about">{about}</span>}
        <a className="button ghost icon small" href={contentUrl(instance, path)} download aria-label="Download" title="Download">
          <Download aria-hidden />
        </a>
        {action}
      </div>
      {children}
    </section>
  );
}

function Picture({ loaded, look, type, name }: { loaded: Loaded; look: string; type: string; name: string }) {
  // Of our own choice of type: what the instance calls it is not believed.
  const url = useMemo(() => URL.createObjectURL(new Blob([loaded.blob], { type })), [loaded, type]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return look === "pdf" ? (
    <iframe className="paper" src={url} title={name} />
  ) : (
    <div className="picture">
      <img src={url} alt={name} />
    </div>
  );
}

interface TextProps {
  instance: string;
  path: string;
  loaded: Loaded;
  onReload: () => void;
}

function TextFile({ instance, path, loaded, onReload }: TextProps) {
  const say = useToast();
  const { data: original } = useQuery({
    queryKey: ["text", loaded.etag, path],
    queryFn: () => loaded.blob.text(),
    staleTime: Infinity,
    gcTime: 0,
  });
  const [draft, setDraft] = useState<string | null>(null);
  const [etag, setEtag] = useState(loaded.etag);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const isConflict = problem instanceof ApiProblem && problem.status === 412;
  useBlocker({
    shouldBlockFn: () => draft !== null && !window.confirm("Leave without saving what you changed?"),
    enableBeforeUnload: () => draft !== null,
  });
  const write = async (based: string | undefined) => {
    if (draft === null) return;
    setBusy(true);
    setProblem(null);
    try {
      setEtag(await save(instance, path, draft, based));
      setDraft(null);
      say({ text: "Saved." });
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Frame
      instance={instance}
      path={path}
      about={draft === null ? "" : "Changed"}
      action={
        <Button size="small" kind="primary" icon={<Save aria-hidden />} busy={busy} disabled={draft === null} onClick={() => void write(etag)}>
          Save
        </Button>
      }
    >
      {isConflict ? (
        <Notice
          kind="warn"
          title="The file was changed meanwhile."
          action={
            <>
              <Button size="small" onClick={onReload}>
                Take theirs
              </Button>
              <Button size="small" kind="danger" onClick={() => void write(undefined)}>
                Keep mine
              </Button>
            </>
          }
        >
          Somebody, perhaps the agent, wrote it after you opened it.
        </Notice>
      ) : (
        problem !== null && <Notice kind="bad">{messageOf(problem)}</Notice>
      )}
      {original === undefined ? (
        <Spinner />
      ) : (
        <Suspense fallback={<Spinner />}>
          <Editor name={nameOf(path)} text={original} onChange={setDraft} onSave={() => void write(etag)} />
        </Suspense>
      )}
    </Frame>
  );
}
