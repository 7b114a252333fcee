/** The mark and the name. */
export function Brand() {
  return (
    <span className="brand">
      <svg viewBox="0 0 32 32" aria-hidden>
        <rect width="32" height="32" rx="8" />
        <path d="M7 21c3 0 3-3 6-3s3 3 6 3 3-3 6-3M7 15c3 0 3-3 6-3s3 3 6 3 3-3 6-3" />
      </svg>
      Reef
    </span>
  );
}
