import "./files.css";
import "../terminal/terminal.css";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ChevronRight, Download, FilePlus, FolderPlus, FolderOpen, Search, Upload, X } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { api, unwrap } from "../api/client";
import { ApiProblem, messageOf } from "../api/problem";
import { useInstance } from "../instance/InstanceLayout";
import { NotReady } from "../instance/NotReady";
import { follow } from "../lib/follow";
import { useSubmit, withFields } from "../pages/Gate";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { useToast } from "../ui/toast";
import { archiveUrl, download, save } from "./content";
import { Entries } from "./Entries";
import { FileView } from "./FileView";
import { Found } from "./Found";
import { join, trail, WORKSPACE } from "./paths";
import { dropped, useUploads, type Upload as OnItsWay, type Uploads } from "./uploads";

const LIMIT = 2000;

/** Files of the instance: one directory, or one file of it. */
export function FilesPage() {
  const instance = useInstance();
  const isUp = instance.status === "ready";
  const { path = WORKSPACE, file, line } = useSearch({ from: "/shell/instances/$id/files" });
  // A file that is open stays open: there may be something written in it.
  if (file) return <FileView key={file} instance={instance} path={file} line={line} />;
  if (!isUp) {
    return (
      <div className="workbench">
        <div className="page narrow">
          <NotReady instance={instance} />
        </div>
      </div>
    );
  }
  return <Directory key={path} instance={instance.id} path={path} />;
}

function Directory({ instance, path }: { instance: string; path: string }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const queryKey = ["files", instance, path];
  const refresh = () => void client.invalidateQueries({ queryKey: ["files", instance] });
  const { data: entries, error, refetch } = useQuery({
    queryKey,
    queryFn: () => unwrap(api.GET("/api/instances/{id}/files", { params: { path: { id: instance }, query: { path, limit: LIMIT } } })),
  });
  const { uploads, shown } = useUploads(instance);
  const say = useToast();
  const [making, setMaking] = useState<"directory" | "file" | null>(null);
  const [over, setOver] = useState(false);
  const [wanted, setWanted] = useState<string | null>(null);
  const picker = useRef<HTMLInputElement>(null);

  // What the agent does with files is seen as it does it.
  useEffect(() => {
    const stop = new AbortController();
    follow({
      url: () => `/api/instances/${instance}/files/watch?path=${encodeURIComponent(path)}`,
      onEvents: () => void client.invalidateQueries({ queryKey: ["files", instance, path] }),
      onState: () => undefined,
      signal: stop.signal,
      // Where it cannot be watched, it can be read.
    }).catch(() => undefined);
    return () => stop.abort();
  }, [client, instance, path]);

  const make = useSubmit(async (form: FormData) => {
    const target = join(path, text(form, "name"));
    if (making === "directory") {
      await unwrap(api.POST("/api/instances/{id}/files/mkdir", { params: { path: { id: instance } }, body: { path: target } }));
      refresh();
    } else {
      await create(instance, target);
      await navigate({ to: "/instances/$id/files", params: { id: instance }, search: { file: target } });
    }
    setMaking(null);
  });

  return (
    // Files may be dropped on it as well as chosen with its button.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <section
      className={over ? "workbench files over" : "workbench files"}
      aria-label="Files"
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        void dropped(event.dataTransfer).then((files) => uploads.add(path, files));
      }}
    >
      <div className="bar">
        <Trail instance={instance} path={path} />
        <span className="grow" />
        <IconButton size="small" label="Search in files" aria-pressed={wanted !== null} icon={<Search aria-hidden />} onClick={() => setWanted(wanted === null ? "" : null)} />
        <IconButton size="small" label="New file" icon={<FilePlus aria-hidden />} onClick={() => setMaking("file")} />
        <IconButton size="small" label="New folder" icon={<FolderPlus aria-hidden />} onClick={() => setMaking("directory")} />
        <IconButton
          size="small"
          label="Download as an archive"
          icon={<Download aria-hidden />}
          onClick={() =>
            void download(instance, path, archiveUrl(instance, path, "zip")).catch((problem: unknown) =>
              say({ kind: "bad", text: messageOf(problem) }),
            )
          }
        />
        <Button size="small" icon={<Upload aria-hidden />} onClick={() => picker.current?.click()}>
          Upload
        </Button>
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          onChange={({ target }) => {
            uploads.add(path, Array.from(target.files ?? [], (file) => ({ path: file.name, file })));
            target.value = "";
          }}
        />
      </div>
      {wanted !== null && <Found instance={instance} path={path} onClose={() => setWanted(null)} />}
      {shown.length > 0 && <OnTheirWay uploads={uploads} shown={shown} />}
      <div className="scroller">
        {error && (
          <div className="page narrow">
            <Notice
              kind="bad"
              action={
                <>
                  <Button size="small" onClick={() => void refetch()}>
                    Try again
                  </Button>
                  <Link className="button small" to="/instances/$id/files" params={{ id: instance }}>
                    To the workspace
                  </Link>
                </>
              }
            >
              {messageOf(error)}
            </Notice>
          </div>
        )}
        {!entries ? (
          !error && <Spinner />
        ) : entries.length === 0 ? (
          <Empty icon={<FolderOpen />} title="Nothing here yet">
            <p>Drop files or folders here, or let the agent make some.</p>
          </Empty>
        ) : (
          <Entries instance={instance} entries={entries} onChange={refresh} />
        )}
        {entries && entries.length >= LIMIT && <p className="soft note">Only the first {LIMIT} are shown.</p>}
      </div>
      <Dialog open={making !== null} onOpenChange={() => setMaking(null)} title={making === "file" ? "New file" : "New folder"}>
        <form onSubmit={withFields(make.submit)}>
          {make.general}
          <Field label="Name" name="name" required autoComplete="off" spellCheck={false} error={make.fields["path"]} />
          <footer>
            <Button onClick={() => setMaking(null)}>Cancel</Button>
            <Button kind="primary" type="submit" busy={make.busy}>
              Create
            </Button>
          </footer>
        </form>
      </Dialog>
    </section>
  );
}

/** Makes an empty file where there is nothing. */
async function create(instance: string, path: string): Promise<void> {
  try {
    await save(instance, path, "", { "if-none-match": "*" });
  } catch (error) {
    if (!(error instanceof ApiProblem && error.status === 412)) throw error;
    const fields = [{ field: "path", message: "there is one of this name already" }];
    throw new ApiProblem(412, { error: { code: error.code, details: { fields } } });
  }
}

/** Files that are being sent, and what is asked of those whose name is taken. */
function OnTheirWay({ uploads, shown }: { uploads: Uploads; shown: OnItsWay[] }) {
  return (
    <ul className="uploads" aria-label="Uploads">
      {shown.map(({ key, path, part, isTaken, problem }) => (
        <li key={key}>
          <span className="grow">{path}</span>
          {isTaken ? (
            <>
              <span>is there already.</span>
              <Button size="small" kind="danger" onClick={() => uploads.decide(key, "replace")}>
                Replace
              </Button>
              <Button size="small" onClick={() => uploads.decide(key, "both")}>
                Keep both
              </Button>
              <Button size="small" onClick={() => uploads.drop(key)}>
                Skip
              </Button>
            </>
          ) : (
            <>
              {problem === undefined ? <progress max={1} value={part} aria-label={`Upload of ${path}`} /> : <span className="bad">{problem}</span>}
              <IconButton
                size="small"
                label={`${problem === undefined ? "Cancel" : "Dismiss"} ${path}`}
                icon={<X aria-hidden />}
                onClick={() => uploads.drop(key)}
              />
            </>
          )}
        </li>
      ))}
    </ul>
  );
}

/** Where one is, each step a way back. */
export function Trail({ instance, path }: { instance: string; path: string }) {
  const steps = trail(path);
  return (
    <nav aria-label="Folder" className="trail">
      <ol>
        {steps.map((step, index) => (
          <li key={step.path}>
            {index > 0 && <ChevronRight aria-hidden />}
            {index === steps.length - 1 ? (
              <span aria-current="page">{step.name}</span>
            ) : (
              <Link to="/instances/$id/files" params={{ id: instance }} search={{ path: step.path }}>
                {step.name}
              </Link>
            )}
          </li>
        ))}
      </ol>
    </nav>
  );
}
