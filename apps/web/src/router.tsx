import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { ApiProblem } from "./api/problem";
import { chatSessionsQuery, instanceQuery, instancesQuery, sessionQuery } from "./api/queries";
import { InstanceLayout } from "./instance/InstanceLayout";
import { AccountLayout } from "./pages/account/AccountLayout";
import { AdminLayout } from "./pages/admin/AdminLayout";
import { Instances } from "./pages/Instances";
import { ForgotPassword, ResetPassword, VerifyEmail } from "./pages/Recovery";
import { NotFound, Trouble } from "./pages/Trouble";
import { Shell } from "./pages/Shell";
import { SignIn } from "./pages/SignIn";
import { SignUp } from "./pages/SignUp";
import { arrive, Spinner } from "./ui/Page";

const root = createRootRouteWithContext<{ client: QueryClient }>()({ component: Outlet });

const named = (name: string) => (search: Record<string, unknown>): Record<string, string> =>
  typeof search[name] === "string" ? { [name]: search[name] } : {};

const next = (search: Record<string, unknown>): { next?: string } =>
  // Only a path of ours: an address of another site would lead away from here.
  typeof search["next"] === "string" && /^\/(instances|account|admin)([/?]|$)/.test(search["next"]) ? { next: search["next"] } : {};

const signIn = createRoute({ getParentRoute: () => root, path: "/sign-in", component: SignIn, validateSearch: next });
const signUp = createRoute({
  getParentRoute: () => root,
  path: "/sign-up",
  component: SignUp,
  validateSearch: (search): { next?: string; invite?: string } => ({ ...next(search), ...named("invite")(search) }),
});
const forgotPassword = createRoute({ getParentRoute: () => root, path: "/forgot-password", component: ForgotPassword });
const resetPassword = createRoute({
  getParentRoute: () => root,
  path: "/reset-password",
  component: ResetPassword,
  validateSearch: (search): { token?: string } => named("token")(search),
});
const verifyEmail = createRoute({
  getParentRoute: () => root,
  path: "/verify-email",
  component: VerifyEmail,
  validateSearch: (search): { token?: string } => named("token")(search),
});

const shell = createRoute({
  getParentRoute: () => root,
  id: "shell",
  component: Shell,
  beforeLoad: async ({ context: { client }, location }) => {
    try {
      await client.query({ ...sessionQuery, staleTime: "static" });
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 401) {
        throw redirect({ to: "/sign-in", search: { next: location.pathname + location.searchStr } });
      }
      throw error;
    }
  },
});

const instances = createRoute({
  getParentRoute: () => shell,
  path: "/instances",
  component: Instances,
  loader: ({ context: { client } }) => client.query({ ...instancesQuery, staleTime: "static" }),
});

const instance = createRoute({
  getParentRoute: () => shell,
  path: "/instances/$id",
  component: InstanceLayout,
  loader: ({ context: { client }, params }) => client.query({ ...instanceQuery(params.id), staleTime: "static" }),
});
const instanceIndex = createRoute({
  getParentRoute: () => instance,
  path: "/",
  beforeLoad: ({ params }) => {
    throw redirect({ to: "/instances/$id/chat", params });
  },
});
const chat = createRoute({
  getParentRoute: () => instance,
  path: "chat",
  component: lazyRouteComponent(() => import("./chat/ChatPage"), "ChatPage"),
  loader: ({ context: { client }, params }) =>
    // Only a head start: the page says what is wrong.
    client.query({ ...chatSessionsQuery(params.id), staleTime: "static" }).catch(() => null),
});
const chatIndex = createRoute({ getParentRoute: () => chat, path: "/" });
const chatSession = createRoute({ getParentRoute: () => chat, path: "$session" });
const files = createRoute({
  getParentRoute: () => instance,
  path: "files",
  component: lazyRouteComponent(() => import("./files/FilesPage"), "FilesPage"),
  validateSearch: (search): { path?: string; file?: string; line?: number } => ({
    ...named("path")(search),
    ...named("file")(search),
    ...(typeof search["line"] === "number" ? { line: search["line"] } : {}),
  }),
});
const terminal = createRoute({
  getParentRoute: () => instance,
  path: "terminal",
  component: lazyRouteComponent(() => import("./terminal/TerminalPage"), "TerminalPage"),
  validateSearch: (search): { session?: string } => named("session")(search),
});
const desktop = createRoute({
  getParentRoute: () => instance,
  path: "desktop",
  component: lazyRouteComponent(() => import("./desktop/DesktopPage"), "DesktopPage"),
});
const logs = createRoute({
  getParentRoute: () => instance,
  path: "logs",
  component: lazyRouteComponent(() => import("./instance/Logs"), "Logs"),
});
const settings = createRoute({
  getParentRoute: () => instance,
  path: "settings",
  component: lazyRouteComponent(() => import("./instance/Settings"), "Settings"),
});

const account = createRoute({ getParentRoute: () => shell, path: "/account", component: AccountLayout });
const accountIndex = createRoute({
  getParentRoute: () => account,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/account/keys" });
  },
});
const keys = createRoute({
  getParentRoute: () => account,
  path: "keys",
  component: lazyRouteComponent(() => import("./pages/account/Keys"), "Keys"),
});
const invites = createRoute({
  getParentRoute: () => account,
  path: "invites",
  component: lazyRouteComponent(() => import("./pages/account/Invites"), "Invites"),
});
const sessions = createRoute({
  getParentRoute: () => account,
  path: "sessions",
  component: lazyRouteComponent(() => import("./pages/account/Sessions"), "Sessions"),
});

const usage = createRoute({
  getParentRoute: () => account,
  path: "usage",
  component: lazyRouteComponent(() => import("./pages/account/Usage"), "Usage"),
});
const history = createRoute({
  getParentRoute: () => account,
  path: "audit",
  component: lazyRouteComponent(() => import("./pages/account/History"), "History"),
});

const admin = createRoute({
  getParentRoute: () => shell,
  path: "/admin",
  component: AdminLayout,
  beforeLoad: async ({ context: { client } }) => {
    const user = await client.query({ ...sessionQuery, staleTime: "static" });
    if (user.role !== "operator") throw redirect({ to: "/instances" });
  },
});
const adminIndex = createRoute({
  getParentRoute: () => admin,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/admin/users" });
  },
});
const adminUsers = createRoute({
  getParentRoute: () => admin,
  path: "users",
  component: lazyRouteComponent(() => import("./pages/admin/Users"), "Users"),
});
const adminInvites = createRoute({
  getParentRoute: () => admin,
  path: "invites",
  component: lazyRouteComponent(() => import("./pages/admin/Invites"), "Invites"),
});
const adminInstances = createRoute({
  getParentRoute: () => admin,
  path: "instances",
  component: lazyRouteComponent(() => import("./pages/admin/Instances"), "Instances"),
});
const adminTasks = createRoute({
  getParentRoute: () => admin,
  path: "tasks",
  component: lazyRouteComponent(() => import("./pages/admin/Tasks"), "Tasks"),
});
const adminMails = createRoute({
  getParentRoute: () => admin,
  path: "mails",
  component: lazyRouteComponent(() => import("./pages/admin/Mails"), "Mails"),
});
const adminAudit = createRoute({
  getParentRoute: () => admin,
  path: "audit",
  component: lazyRouteComponent(() => import("./pages/admin/Audit"), "Audit"),
});

const tree = root.addChildren([
  signIn,
  signUp,
  forgotPassword,
  resetPassword,
  verifyEmail,
  shell.addChildren([
    instances,
    instance.addChildren([instanceIndex, chat.addChildren([chatIndex, chatSession]), files, terminal, desktop, logs, settings]),
    account.addChildren([accountIndex, keys, invites, usage, history, sessions]),
    admin.addChildren([adminIndex, adminUsers, adminInvites, adminInstances, adminTasks, adminMails, adminAudit]),
  ]),
]);

export function makeRouter(client: QueryClient) {
  const router = createRouter({
    routeTree: tree,
    context: { client },
    defaultPreload: "intent",
    // What is fresh is the query cache's to say.
    defaultPreloadStaleTime: 0,
    defaultPendingComponent: Spinner,
    defaultErrorComponent: Trouble,
    defaultNotFoundComponent: NotFound,
    scrollRestoration: true,
  });
  router.subscribe("onRendered", ({ fromLocation, pathChanged }) => {
    // At first it is the browser that says where one is.
    if (fromLocation && pathChanged) arrive();
  });
  return router;
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
