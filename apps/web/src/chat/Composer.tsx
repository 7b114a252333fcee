import { ArrowUp, FileText, Paperclip, Square, X } from "lucide-react";
import { useEffect, useRef, useState, type ClipboardEvent, type DragEvent, type KeyboardEvent } from "react";

import { messageOf } from "../api/problem";
import { count, size } from "../lib/format";
import { IconButton } from "../ui/Button";
import { MAX_BYTES, MAX_FILES, read, type OutgoingFile } from "./send";

interface Props {
  /** Under which name what was written is kept until it is sent. */
  draftKey: string;
  disabled: boolean;
  onSend: (text: string, files: OutgoingFile[]) => Promise<void>;
  /** While an answer is on its way. */
  onCancel: (() => Promise<void>) | undefined;
}

/** Where one writes: Enter sends, Shift+Enter breaks the line, files come by drop, paste or choice. */
export function Composer({ draftKey, disabled, onSend, onCancel }: Props) {
  const [text, setText] = useState(() => sessionStorage.getItem(draftKey) ?? "");
  const [files, setFiles] = useState<OutgoingFile[]>([]);
  const [problem, setProblem] = useState("");
  const [over, setOver] = useState(false);
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);

  useEffect(() => {
    // A phone would open its keyboard over what there is to read.
    if (matchMedia("(pointer: fine)").matches) input.current?.focus();
  }, []);

  const write = (value: string) => {
    setText(value);
    if (value) sessionStorage.setItem(draftKey, value);
    else sessionStorage.removeItem(draftKey);
  };

  const add = async (chosen: Iterable<File>) => {
    setProblem("");
    try {
      const all = [...files, ...(await read(chosen))];
      if (all.length > MAX_FILES) setProblem(`At most ${count(MAX_FILES, "file")} go with a message.`);
      else if (all.reduce((sum, file) => sum + file.size, 0) > MAX_BYTES) setProblem(`Files of a message may have ${size(MAX_BYTES)} together.`);
      else setFiles(all);
    } catch (error) {
      setProblem(messageOf(error));
    }
  };

  const canSend = !disabled && !busy && (text.trim() !== "" || files.length > 0);
  const submit = async () => {
    if (!canSend) return;
    setBusy(true);
    setProblem("");
    try {
      const sent = onSend(text, files);
      write("");
      setFiles([]);
      await sent;
    } catch (error) {
      // Nothing was sent: it is here again.
      write(text);
      setFiles(files);
      setProblem(messageOf(error));
    } finally {
      setBusy(false);
    }
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    void submit();
  };
  const onPaste = (event: ClipboardEvent) => {
    if (event.clipboardData.files.length === 0) return;
    event.preventDefault();
    void add(event.clipboardData.files);
  };
  const onDrop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    void add(event.dataTransfer.files);
  };

  return (
    // Files may be dropped on it as well as chosen with its button.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <form
      className={over ? "composer over" : "composer"}
      aria-label="Message"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={onDrop}
    >
      {files.length > 0 && (
        <ul className="files">
          {files.map((file, index) => (
            <li key={index}>
              <FileText aria-hidden />
              {file.name} <span className="soft">{size(file.size)}</span>
              <IconButton
                size="small"
                label={`Remove ${file.name}`}
                icon={<X aria-hidden />}
                onClick={() => setFiles(files.filter((_, other) => other !== index))}
              />
            </li>
          ))}
        </ul>
      )}
      <textarea
        ref={input}
        rows={1}
        aria-label="Message"
        placeholder={disabled ? "It cannot answer now" : "Write a message"}
        value={text}
        disabled={disabled}
        onChange={(event) => write(event.target.value)}
        onKeyDown={onKeyDown}
        onPaste={onPaste}
      />
      <div className="bar">
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          onChange={(event) => {
            void add(event.target.files ?? []);
            event.target.value = "";
          }}
        />
        <IconButton label="Attach files" icon={<Paperclip aria-hidden />} disabled={disabled} onClick={() => picker.current?.click()} />
        <span className="error grow" role="alert">
          {problem}
        </span>
        {onCancel && <IconButton label="Stop the answer" icon={<Square aria-hidden />} onClick={() => void onCancel().catch((error: unknown) => setProblem(messageOf(error)))} />}
        <IconButton kind="primary" type="submit" label="Send" icon={<ArrowUp aria-hidden />} disabled={!canSend} />
      </div>
    </form>
  );
}
