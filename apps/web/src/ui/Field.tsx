import { useId, type InputHTMLAttributes, type ReactNode, type TextareaHTMLAttributes } from "react";

interface Around {
  label: ReactNode;
  hint?: ReactNode;
  error?: string | undefined;
}

/** A label, its input, what to know before, and what was wrong, tied together for screen readers. */
export function Field({ label, hint, error, ...input }: Around & InputHTMLAttributes<HTMLInputElement>) {
  const { ids, around } = useAround({ label, hint, error });
  return around(<input {...input} {...ids} />);
}

export function TextField({ label, hint, error, ...input }: Around & TextareaHTMLAttributes<HTMLTextAreaElement>) {
  const { ids, around } = useAround({ label, hint, error });
  return around(<textarea {...input} {...ids} />);
}

export function SelectField({
  label,
  hint,
  error,
  children,
  ...input
}: Around & React.SelectHTMLAttributes<HTMLSelectElement>) {
  const { ids, around } = useAround({ label, hint, error });
  return around(
    <select {...input} {...ids}>
      {children}
    </select>,
  );
}

function useAround({ label, hint, error }: Around) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  const ids = { id, "aria-describedby": described || undefined, "aria-invalid": error ? true : undefined };
  const around = (input: ReactNode) => (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {hint && (
        <p className="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
      {input}
      {error && (
        <p className="error" id={`${id}-error`} role="alert">
          {error}
        </p>
      )}
    </div>
  );
  return { ids, around };
}
