import { useEffect, useMemo, useRef, useState } from "react";

import { Notice } from "../ui/Notice";
import type { Loaded } from "./content";

const SVG = "image/svg+xml";
/** What a drawing without a size of its own gets, and what no drawing exceeds. */
const [USUAL_PX, MOST_PX] = [512, 4096];

/** A picture or a paper of the instance. */
export function Picture({ loaded, look, type, name }: { loaded: Loaded; look: string; type: string; name: string }) {
  // Of our own choice of type: what the instance calls it is not believed.
  const url = useMemo(() => URL.createObjectURL(new Blob([loaded.blob], { type })), [loaded, type]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  // Its scripts are the viewer's affair, which is a process of its own; browsers have no viewer in a sandbox.
  if (look === "pdf") return <iframe className="paper" src={url} title={name} />;
  return <div className="picture">{type === SVG ? <Drawing url={url} name={name} /> : <img src={url} alt={name} />}</div>;
}

/** An SVG, painted: opened in a tab of its own it would be a document of our origin. */
function Drawing({ url, name }: { url: string; name: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [isBroken, setIsBroken] = useState(false);
  useEffect(() => {
    const image = new Image();
    image.onload = () => {
      const [width, height] = [image.naturalWidth || USUAL_PX, image.naturalHeight || USUAL_PX];
      const scale = Math.min(1, MOST_PX / Math.max(width, height));
      if (!canvas.current) return;
      canvas.current.width = width * scale;
      canvas.current.height = height * scale;
      canvas.current.getContext("2d")?.drawImage(image, 0, 0, width * scale, height * scale);
    };
    image.onerror = () => setIsBroken(true);
    image.src = url;
    return () => {
      image.onload = image.onerror = null;
    };
  }, [url]);
  if (isBroken) return <Notice kind="bad">This is no picture that a browser can draw.</Notice>;
  return (
    <div role="img" aria-label={name}>
      <canvas ref={canvas} />
    </div>
  );
}
