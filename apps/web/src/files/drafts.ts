/** A text that was changed and not saved, and the file that it was made of. */
interface Draft {
  text: string;
  etag: string;
}

/** By instance and path: a page that goes by itself (the instance is deleted, the session ends) takes none with it. */
const DRAFTS = new Map<string, Draft>();

export function keptDraft(instance: string, path: string): Draft | undefined {
  return DRAFTS.get(`${instance} ${path}`);
}

export function keepDraft(instance: string, path: string, draft: Draft | undefined): void {
  if (draft) DRAFTS.set(`${instance} ${path}`, draft);
  else DRAFTS.delete(`${instance} ${path}`);
}
