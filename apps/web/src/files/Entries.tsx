import { Link } from "@tanstack/react-router";
import { Download, EllipsisVertical, File, FileCode, FileImage, Folder, Link2, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";

import { api, unwrap, type FileEntry } from "../api/client";
import { messageOf } from "../api/problem";
import { ago, size, when } from "../lib/format";
import { useSubmit, withFields } from "../pages/Gate";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Confirm, Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Menu, MenuItem, MenuLine } from "../ui/Menu";
import { useToast } from "../ui/toast";
import { archiveUrl, contentUrl, download } from "./content";
import { join, lookOf, parentOf } from "./paths";

interface Props {
  instance: string;
  entries: FileEntry[];
  onChange: () => void;
}

/** What is in a directory: folders first, each by name. */
export function Entries({ instance, entries, onChange }: Props) {
  const ordered = [...entries].sort(
    (a, b) => Number(b.type === "directory") - Number(a.type === "directory") || a.name.localeCompare(b.name, undefined, { numeric: true }),
  );
  return (
    <table className="entries">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col">Size</th>
          <th scope="col">Changed</th>
          <th>
            <span className="hidden">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {ordered.map((entry) => (
          <Row key={entry.path} instance={instance} entry={entry} onChange={onChange} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ instance, entry, onChange }: { instance: string; entry: FileEntry; onChange: () => void }) {
  const [asked, setAsked] = useState<"move" | "delete" | null>(null);
  const close = () => setAsked(null);
  const isDirectory = entry.type === "directory";
  const params = { path: { id: instance } };
  const move = useSubmit(
    async (form: FormData) => {
      const to = text(form, "to");
      const body = { from: entry.path, to: to.startsWith("/") ? to : join(parentOf(entry.path), to) };
      await unwrap(api.POST("/api/instances/{id}/files/move", { params, body }));
      close();
      onChange();
    },
    () => "to",
  );
  const remove = async () => {
    const query = { path: entry.path, ...(isDirectory ? { recursive: true } : {}) };
    await unwrap(api.DELETE("/api/instances/{id}/files", { params: { ...params, query } }));
    onChange();
  };
  const say = useToast();
  const saveAs = (url: string) =>
    void download(instance, entry.path, url).catch((error: unknown) => say({ kind: "bad", text: messageOf(error) }));
  const search = isDirectory ? { path: entry.path } : { file: entry.path };
  return (
    <tr>
      <td>
        <Link className="name" to="/instances/$id/files" params={{ id: instance }} search={search}>
          <Kind entry={entry} />
          <span>{entry.name}</span>
          {entry.target != null && <span className="soft"> → {entry.target}</span>}
        </Link>
      </td>
      <td className="soft">{isDirectory ? "" : size(entry.size)}</td>
      <td className="soft" title={when(entry.modified_at)}>
        {ago(entry.modified_at)}
      </td>
      <td>
        <Menu trigger={<IconButton size="small" label={`Actions for ${entry.name}`} icon={<EllipsisVertical aria-hidden />} />}>
          <MenuItem
            icon={<Download aria-hidden />}
            onSelect={() => saveAs(isDirectory ? archiveUrl(instance, entry.path, "zip") : contentUrl(instance, entry.path))}
          >
            {isDirectory ? "Download as an archive" : "Download"}
          </MenuItem>
          <MenuItem icon={<Pencil aria-hidden />} onSelect={() => setAsked("move")}>
            Rename or move…
          </MenuItem>
          <MenuLine />
          <MenuItem icon={<Trash2 aria-hidden />} danger onSelect={() => setAsked("delete")}>
            Delete…
          </MenuItem>
        </Menu>
        <Dialog open={asked === "move"} onOpenChange={close} title={`Rename ${entry.name}`}>
          <form onSubmit={withFields(move.submit)} noValidate>
            <Field label="New name" hint="Or a path that begins with /, to move it." name="to" defaultValue={entry.name} autoComplete="off" spellCheck={false} error={move.fields["to"]} />
            <footer>
              <Button onClick={close}>Cancel</Button>
              <Button kind="primary" type="submit" busy={move.busy}>
                Rename
              </Button>
            </footer>
          </form>
        </Dialog>
        <Confirm open={asked === "delete"} onOpenChange={close} title={`Delete ${entry.name}?`} action="Delete" onConfirm={remove}>
          <p>{isDirectory ? "All that is in it goes too. " : ""}This cannot be undone.</p>
        </Confirm>
      </td>
    </tr>
  );
}

function Kind({ entry }: { entry: FileEntry }) {
  if (entry.type === "directory") return <Folder className="folder" aria-label="Folder" />;
  if (entry.type === "symlink") return <Link2 aria-label="Link" />;
  const { look } = lookOf(entry.name, entry.size);
  if (look === "image") return <FileImage aria-hidden />;
  return look === "text" ? <FileCode aria-hidden /> : <File aria-hidden />;
}
