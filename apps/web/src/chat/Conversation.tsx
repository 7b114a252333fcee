import { ArrowDown, History, MessageSquare, RotateCcw } from "lucide-react";
import { memo, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

import type { Instance } from "../api/client";
import { messageOf } from "../api/problem";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Notice } from "../ui/Notice";
import { Empty } from "../ui/Page";
import { Markdown } from "./Markdown";
import type { Outgoing } from "./send";
import { Tools } from "./Tools";
import { isOver, type Turn } from "./transcript";

/** So near to the end counts as reading along. */
const NEAR_PX = 80;
const IDEAS = ["What can you do here?", "Which files are in your workspace?", "Write a haiku about coral reefs."];

interface Props {
  instance: Instance;
  turns: Turn[];
  pending: Outgoing[];
  hasOlder: boolean;
  loadOlder: () => Promise<void>;
  onRetry: (message: Outgoing) => void;
  onDiscard: (message: Outgoing) => void;
  /** What was said is not known while the instance does not run. */
  isAway: boolean;
  onAsk: ((text: string) => void) | undefined;
}

/** What was said, the newest at the end, where it stays while it grows. */
export function Conversation({ instance, turns, pending, hasOlder, loadOlder, onRetry, onDiscard, isAway, onAsk }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const heightBefore = useRef<number | null>(null);

  useLayoutEffect(() => {
    const scroller = box.current;
    if (!scroller) return;
    if (heightBefore.current !== null) {
      // Older messages came in above: what was read stays where it was.
      scroller.scrollTop += scroller.scrollHeight - heightBefore.current;
      heightBefore.current = null;
    } else if (atEnd) {
      scroller.scrollTop = scroller.scrollHeight;
    }
  }, [turns, pending.length, atEnd]);

  // One's own message is always wanted in sight.
  const [sent, setSent] = useState(pending.length);
  if (sent !== pending.length) {
    setSent(pending.length);
    setAtEnd(true);
  }

  const [loading, setLoading] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const older = async () => {
    setLoading(true);
    setProblem(null);
    try {
      await loadOlder();
      // They are known, but not drawn yet.
      heightBefore.current = box.current?.scrollHeight ?? null;
    } catch (error) {
      setProblem(error);
    } finally {
      setLoading(false);
    }
  };

  // One and the same function, so that only the turn that grows is drawn again.
  const asked = useRef(onAsk);
  useEffect(() => {
    asked.current = onAsk;
  });
  const again = useCallback((text: string) => asked.current?.(text), []);

  if (isAway) {
    return (
      <div className="scroller">
        <Empty icon={<History />} title={`${instance.name} does not run now`}>
          <p>What was said is kept. It shows here once it runs.</p>
        </Empty>
      </div>
    );
  }
  if (turns.length === 0 && pending.length === 0) {
    return (
      <div className="scroller">
        <Empty icon={<MessageSquare />} title={`Talk to ${instance.name}`}>
          <p>It has a shell, files and a memory of its own. Answers go on when you close this page.</p>
          {onAsk && (
            <div className="ideas">
              {IDEAS.map((idea) => (
                <Button key={idea} onClick={() => onAsk(idea)}>
                  {idea}
                </Button>
              ))}
            </div>
          )}
        </Empty>
      </div>
    );
  }
  const last = turns.at(-1);
  return (
    <>
      <div
        className="scroller"
        ref={box}
        // Scrolls by itself, so the keyboard must reach it.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        tabIndex={0}
        role="log"
        aria-label="Messages"
        aria-live="off"
        onScroll={({ currentTarget: it }) => setAtEnd(it.scrollHeight - it.scrollTop - it.clientHeight < NEAR_PX)}
      >
        <div className="turns">
          {hasOlder && (
            <Button kind="ghost" size="small" busy={loading} onClick={() => void older()}>
              Earlier messages
            </Button>
          )}
          {problem !== null && <Notice kind="bad">{messageOf(problem)}</Notice>}
          {turns.map((turn) => (
            <TurnView key={turn.id} turn={turn} onAgain={onAsk && again} />
          ))}
          {pending.map((message) => (
            <div key={message.key} className="turn">
              <Question text={message.text} files={message.files.map(({ name }) => name)} />
              {message.problem === undefined ? (
                <Waiting label="Sending" />
              ) : (
                <div className="verdict bad" role="alert">
                  Not sent. {message.problem}
                  <Button size="small" onClick={() => onRetry(message)}>
                    Send again
                  </Button>
                  <Button size="small" kind="ghost" onClick={() => onDiscard(message)}>
                    Discard
                  </Button>
                </div>
              )}
            </div>
          ))}
        </div>
      </div>
      {!atEnd && (
        <Button className="jump" size="small" icon={<ArrowDown aria-hidden />} onClick={() => setAtEnd(true)}>
          Latest
        </Button>
      )}
      <div className="hidden" role="status">
        {last && (isOver(last.status) ? `Answer ${last.status}` : "Answering")}
      </div>
    </>
  );
}

const VERDICTS: Partial<Record<Turn["status"], string>> = {
  failed: "This answer failed.",
  cancelled: "You stopped this answer.",
  interrupted: "This answer was interrupted and is not whole.",
};

const TurnView = memo(function TurnView({ turn, onAgain }: { turn: Turn; onAgain: ((text: string) => void) | undefined }) {
  const verdict = VERDICTS[turn.status];
  const question = turn.asked?.content;
  return (
    <div className="turn">
      {turn.asked && <Question text={turn.asked.content} files={turn.asked.attachments ?? []} />}
      {turn.notes.map((note) => (
        <p key={note.id} className="note">
          {note.content}
        </p>
      ))}
      {(turn.text !== "" || turn.tools.length > 0) && (
        <article className="answer" aria-label="Answer">
          <Tools tools={turn.tools} isOver={isOver(turn.status)} />
          {turn.text !== "" && <Markdown text={turn.text} />}
        </article>
      )}
      {!isOver(turn.status) && <Waiting label={turn.status === "queued" ? "Waits for its turn" : "Answering"} />}
      {verdict !== undefined && (
        <div className={turn.status === "cancelled" ? "verdict" : "verdict bad"}>
          {verdict} {turn.status !== "cancelled" && turn.error}
          {onAgain && question && (
            <Button size="small" kind="ghost" icon={<RotateCcw aria-hidden />} onClick={() => onAgain(question)}>
              Ask again
            </Button>
          )}
        </div>
      )}
      {isOver(turn.status) && turn.text !== "" && (
        <div className="tools-row">
          <Copy text={turn.text} label="Copy answer" />
        </div>
      )}
    </div>
  );
});

function Question({ text, files }: { text: string; files: string[] }) {
  return (
    <article className="question" aria-label="You">
      {files.length > 0 && (
        <ul className="files">
          {files.map((name, index) => (
            <li key={index}>{name}</li>
          ))}
        </ul>
      )}
      {text !== "" && <p>{text}</p>}
    </article>
  );
}

function Waiting({ label }: { label: string }) {
  return (
    <div className="waiting" aria-label={label} role="img">
      <span />
      <span />
      <span />
    </div>
  );
}
