import { javascript } from "@codemirror/lang-javascript";
import { json } from "@codemirror/lang-json";
import { markdown } from "@codemirror/lang-markdown";
import { python } from "@codemirror/lang-python";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState, type Extension } from "@codemirror/state";
import { EditorView, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { basicSetup } from "codemirror";
import { useEffect, useRef } from "react";

interface Props {
  name: string;
  text: string;
  /** Where to begin, from 1. */
  line: number | undefined;
  onChange: (text: string) => void;
  onSave: () => void;
}

const LANGUAGES: [RegExp, () => Extension][] = [
  [/\.(m?[jt]sx?|cjs|cts)$/i, () => javascript({ jsx: true, typescript: true })],
  [/\.json$/i, json],
  [/\.(md|markdown)$/i, markdown],
  [/\.py$/i, python],
];

const LOOK = EditorView.theme({
  "&": { height: "100%", backgroundColor: "var(--raised)", color: "var(--ink)" },
  ".cm-scroller": { fontFamily: "var(--mono)", fontSize: "0.875rem", lineHeight: "1.6" },
  ".cm-content": { caretColor: "var(--accent)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)" },
  ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--soft)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in oklab, var(--ink) 4%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--accent-soft)",
  },
  ".cm-panels": { backgroundColor: "var(--sunken)", color: "var(--ink)" },
});
const COLOURS = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier], color: "var(--accent)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--good)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--warn)" },
  { tag: tags.comment, color: "var(--soft)", fontStyle: "italic" },
  { tag: tags.heading, fontWeight: "bold" },
  { tag: tags.emphasis, fontStyle: "italic" },
  { tag: tags.strong, fontWeight: "bold" },
  { tag: [tags.link, tags.url], color: "var(--accent)", textDecoration: "underline" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

/** CodeMirror over one text. */
export default function Editor({ name, text, line, onChange, onSave }: Props) {
  const box = useRef<HTMLDivElement>(null);
  // What happens later is told to whoever listens then.
  const told = useRef({ onChange, onSave });
  useEffect(() => {
    told.current = { onChange, onSave };
  });
  useEffect(() => {
    if (!box.current) return;
    const language = LANGUAGES.find(([ending]) => ending.test(name))?.[1];
    const view = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: text,
        extensions: [
          keymap.of([
            {
              key: "Mod-s",
              preventDefault: true,
              run: () => {
                told.current.onSave();
                return true;
              },
            },
          ]),
          basicSetup,
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ "aria-label": name }),
          LOOK,
          syntaxHighlighting(COLOURS),
          language ? language() : [],
          EditorView.updateListener.of((update) => {
            if (update.docChanged) told.current.onChange(update.state.doc.toString());
          }),
        ],
      }),
    });
    if (line !== undefined) {
      const anchor = view.state.doc.line(Math.min(Math.max(line, 1), view.state.doc.lines)).from;
      view.dispatch({ selection: { anchor }, effects: EditorView.scrollIntoView(anchor, { y: "center" }) });
    }
    view.focus();
    return () => view.destroy();
  }, [name, text, line]);
  return <div className="editor" ref={box} />;
}
