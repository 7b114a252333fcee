import "./files.css";

import { useQuery } from "@tanstack/react-query";
import { Navigate, useBlocker } from "@tanstack/react-router";
import { Download, FileQuestion, Save } from "lucide-react";
import { lazy, Suspense, useState, type ReactNode } from "react";

import type { Instance } from "../api/client";
import { ApiProblem, messageOf } from "../api/problem";
import { NotReady } from "../instance/NotReady";
import { size, when } from "../lib/format";
import { Button, IconButton } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { useToast } from "../ui/toast";
import { contentUrl, download, load, save, stat, type Condition, type Loaded } from "./content";
import { keepDraft, keptDraft } from "./drafts";
import { Trail } from "./FilesPage";
import { lookOf, nameOf } from "./paths";
import { Picture } from "./Picture";

const Editor = lazy(() => import("./Editor"));

/** One file: looked at, and changed where it is text. */
export function FileView({ instance, path, line }: { instance: Instance; path: string; line: number | undefined }) {
  const isUp = instance.status === "ready";
  const { id } = instance;
  const found = useQuery({ queryKey: ["files", id, path, "stat"], queryFn: () => stat(id, path), enabled: isUp });
  // What is open stays open, whatever becomes of the file.
  const [entry, setEntry] = useState(found.data);
  if (!entry && found.data) setEntry(found.data);
  const { look, type } = entry ? lookOf(nameOf(path), entry.size) : { look: "none" as const, type: "" };
  const [attempt, setAttempt] = useState(0);
  const content = useQuery({
    queryKey: ["content", id, path, attempt],
    queryFn: ({ signal }) => load(id, path, signal),
    enabled: isUp && entry !== undefined && look !== "none",
    // What is being changed is not changed underneath.
    staleTime: Infinity,
    gcTime: 0,
  });
  if (entry?.type === "directory") return <Navigate to="/instances/$id/files" params={{ id }} search={{ path }} replace />;

  const problem = found.error ?? content.error;
  const again = () => {
    void found.refetch();
    if (content.error) void content.refetch();
  };
  const trouble = isUp ? (
    problem && (
      <Notice
        kind="bad"
        action={
          <Button size="small" onClick={again}>
            Try again
          </Button>
        }
      >
        {messageOf(problem)}
      </Notice>
    )
  ) : (
    <NotReady instance={instance} />
  );
  if (!entry || (look !== "none" && !content.data)) {
    return (
      <Frame instance={id} path={path}>
        {trouble ? <div className="page narrow">{trouble}</div> : <Spinner />}
      </Frame>
    );
  }
  if (look === "text" && content.data) {
    return (
      <TextFile
        key={attempt}
        instance={id}
        path={path}
        line={line}
        loaded={content.data}
        trouble={trouble}
        onReload={() => setAttempt(attempt + 1)}
      />
    );
  }
  return (
    <Frame instance={id} path={path} about={`${size(entry.size)} · ${when(entry.modified_at)}`}>
      {trouble}
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
  action?: ReactNode;
  children: ReactNode;
}

function Frame({ instance, path, about, action, children }: FrameProps) {
  const say = useToast();
  const save = () =>
    void download(instance, path, contentUrl(instance, path)).catch((error: unknown) => say({ kind: "bad", text: messageOf(error) }));
  return (
    <section className="workbench files" aria-label={nameOf(path)}>
      <div className="bar">
        <Trail instance={instance} path={path} />
        <span className="grow" />
        {about && <span className="soft about">{about}</span>}
        <IconButton size="small" label="Download" icon={<Download aria-hidden />} onClick={save} />
        {action}
      </div>
      {children}
    </section>
  );
}

interface TextProps {
  instance: string;
  path: string;
  line: number | undefined;
  loaded: Loaded;
  /** What is wrong with the file or its instance now; what is written here stays. */
  trouble: ReactNode;
  onReload: () => void;
}

function TextFile({ instance, path, line, loaded, trouble, onReload }: TextProps) {
  const say = useToast();
  const { data: original } = useQuery({
    queryKey: ["text", loaded.etag, path],
    queryFn: () => loaded.blob.text(),
    staleTime: Infinity,
    gcTime: 0,
  });
  const [kept] = useState(() => keptDraft(instance, path));
  const [draft, setDraft] = useState(kept?.text ?? null);
  const [etag, setEtag] = useState(kept?.etag ?? loaded.etag);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const isConflict = problem instanceof ApiProblem && problem.status === 412;
  const change = (text: string) => {
    setDraft(text);
    keepDraft(instance, path, { text, etag });
  };
  const forget = () => keepDraft(instance, path, undefined);
  const reload = () => {
    forget();
    onReload();
  };
  useBlocker({
    shouldBlockFn: () => {
      if (draft === null) return false;
      if (!window.confirm("Leave without saving what you changed?")) return true;
      forget();
      return false;
    },
    enableBeforeUnload: () => draft !== null,
  });
  const write = async (condition: Condition) => {
    if (draft === null) return;
    setBusy(true);
    setProblem(null);
    try {
      const written = await save(instance, path, draft, condition);
      setEtag(written);
      // What was typed meanwhile is not saved yet.
      setDraft((now) => (now === draft ? null : now));
      const newer = keptDraft(instance, path);
      keepDraft(instance, path, newer && newer.text !== draft ? { ...newer, etag: written } : undefined);
      say({ text: "Saved." });
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const update = () => void write({ "if-match": etag });
  return (
    <Frame
      instance={instance}
      path={path}
      about={draft === null ? "" : "Changed"}
      action={
        <Button size="small" kind="primary" icon={<Save aria-hidden />} busy={busy} disabled={draft === null} onClick={update}>
          Save
        </Button>
      }
    >
      {trouble}
      {kept && draft === kept.text && (
        <Notice
          action={
            <Button size="small" onClick={reload}>
              Discard it
            </Button>
          }
        >
          What you changed here before is not saved yet.
        </Notice>
      )}
      {isConflict ? (
        <Notice
          kind="warn"
          title="The file was changed meanwhile."
          action={
            <>
              <Button size="small" onClick={reload}>
                Take theirs
              </Button>
              <Button size="small" kind="danger" onClick={() => void write({})}>
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
          <Editor name={nameOf(path)} text={kept?.text ?? original} line={line} onChange={change} onSave={update} />
        </Suspense>
      )}
    </Frame>
  );
}
