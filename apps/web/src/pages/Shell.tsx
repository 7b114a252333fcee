import { useQueryClient, useSuspenseQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouter } from "@tanstack/react-router";
import { BookOpen, Boxes, CircleUserRound, CloudOff, KeyRound, LogOut, ShieldCheck, Ticket } from "lucide-react";
import { useCallback, useState } from "react";

import { api, unwrap, type Operation } from "../api/client";
import { useLive } from "../api/live";
import { sessionQuery } from "../api/queries";
import { setTheme, theme, type Theme } from "../lib/theme";
import { IconButton } from "../ui/Button";
import { Menu, MenuChoice, MenuItem, MenuLabel, MenuLine } from "../ui/Menu";
import { useToast } from "../ui/toast";
import { Brand } from "./Brand";

/** The frame of everything that takes a signed-in person. */
export function Shell() {
  const say = useToast();
  const tellFailure = useCallback(
    ({ kind, error }: Operation) => {
      // What a later wish has replaced is no failure to anybody.
      if (error?.code !== "superseded") say({ kind: "bad", text: error?.message ?? `The ${kind} failed.` });
    },
    [say],
  );
  const { data: user } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const router = useRouter();
  // The session has ended, here or elsewhere: the guard of the pages asks to sign in.
  const leave = useCallback(() => {
    client.removeQueries({ queryKey: sessionQuery.queryKey });
    void router.invalidate();
  }, [client, router]);
  const connection = useLive(tellFailure, leave);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <header className="top">
        <Link to="/instances" aria-label="Reef, your instances">
          <Brand />
        </Link>
        <nav aria-label="Main">
          <Link to="/instances">
            <Boxes aria-hidden />
            <span>Instances</span>
          </Link>
          <a href="/docs">
            <BookOpen aria-hidden />
            <span>Docs</span>
          </a>
          {user.role === "operator" && (
            <Link to="/admin">
              <ShieldCheck aria-hidden />
              <span>Operator</span>
            </Link>
          )}
        </nav>
        <span className="grow" />
        {connection === "lost" && (
          <span className="status bad" role="status">
            <CloudOff aria-hidden />
            Reconnecting
          </span>
        )}
        <AccountMenu />
      </header>
      <main id="main" tabIndex={-1}>
        <Outlet />
      </main>
    </>
  );
}

function AccountMenu() {
  const { data: user } = useSuspenseQuery(sessionQuery);
  const [choice, setChoice] = useState(theme);
  const navigate = useNavigate();
  const client = useQueryClient();
  const say = useToast();
  const signOut = async () => {
    try {
      await unwrap(api.POST("/api/auth/logout"));
      client.clear();
      await navigate({ to: "/sign-in" });
    } catch (error) {
      say({ kind: "bad", text: String(error) });
    }
  };
  return (
    <Menu trigger={<IconButton label="Account" icon={<CircleUserRound aria-hidden />} />}>
      <MenuLabel className="who">
        {user.name && <strong>{user.name}</strong>}
        <span>{user.email}</span>
      </MenuLabel>
      <MenuLine />
      <MenuItem icon={<KeyRound aria-hidden />} onSelect={() => void navigate({ to: "/account/keys" })}>
        API keys
      </MenuItem>
      <MenuItem icon={<Ticket aria-hidden />} onSelect={() => void navigate({ to: "/account/invites" })}>
        Invites
      </MenuItem>
      <MenuItem icon={<CircleUserRound aria-hidden />} onSelect={() => void navigate({ to: "/account/sessions" })}>
        Profile and sessions
      </MenuItem>
      <MenuLine />
      <MenuChoice
        label="Appearance"
        value={choice}
        onChange={(value) => {
          setTheme(value as Theme);
          setChoice(value as Theme);
        }}
        options={[
          ["system", "System"],
          ["light", "Light"],
          ["dark", "Dark"],
        ]}
      />
      <MenuLine />
      <MenuItem icon={<LogOut aria-hidden />} onSelect={() => void signOut()}>
        Sign out
      </MenuItem>
    </Menu>
  );
}
