import { useState, type ReactNode, type SubmitEvent } from "react";

import { ApiProblem, messageOf } from "../api/problem";
import { Notice } from "../ui/Notice";
import { Brand } from "./Brand";

/** The frame of sign-in and sign-up. */
export function Gate({ title, children, below }: { title: string; children: ReactNode; below: ReactNode }) {
  return (
    <div className="gate">
      <a href="/" className="home" aria-label="Reef, start page">
        <Brand />
      </a>
      <main>
        <h1>{title}</h1>
        {children}
      </main>
      <p className="soft">{below}</p>
    </div>
  );
}

/** Runs what a form does: once at a time, with what was wrong by field. */
export function useSubmit<A extends unknown[]>(action: (...args: A) => Promise<unknown>, place?: (problem: ApiProblem) => string | undefined) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const submit = async (...args: A): Promise<void> => {
    setBusy(true);
    setProblem(null);
    try {
      await action(...args);
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  const fields: Record<string, string> = problem instanceof ApiProblem ? { ...problem.fields } : {};
  const field = problem instanceof ApiProblem ? place?.(problem) : undefined;
  if (field) fields[field] = messageOf(problem);
  // What belongs to no field is said above the form.
  const general = problem !== null && Object.keys(fields).length === 0 ? <Notice kind="bad">{messageOf(problem)}</Notice> : null;
  return { busy, submit, fields, general };
}

/** Gives a form's fields to what it does; unlike `action` of a form, what was typed stays. */
export const withFields = (submit: (fields: FormData) => Promise<void>) => (event: SubmitEvent<HTMLFormElement>) => {
  event.preventDefault();
  void submit(new FormData(event.currentTarget));
};
