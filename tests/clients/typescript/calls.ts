// The documented calls with types made from the OpenAPI document. Prints what it saw, as JSON.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[] };
const [, , baseUrl, apiToken, team_id] = process.argv;
const ledger = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${apiToken}` } });

function good<T>(answer: { data?: T; error?: components["schemas"]["Problem"] }): T {
  if (answer.data === undefined) throw new Error(answer.error?.detail);
  return answer.data;
}

const path = (token_id: string) => ({ params: { path: { token_id } } });

const me = good(await ledger.GET("/whoami"));
const body = { team_id, name: "Okta provisioning" };
const made = good(await ledger.POST("/scim-token", { body }));
const one = good(await ledger.GET("/scim-token/{token_id}", path(made.id)));
const page = good(await ledger.GET("/scim-token", { params: { query: { team_id, limit: 10 } } }));
const rotated = good(
  await ledger.POST("/scim-token/{token_id}/rotate", { ...path(made.id), body: { overlap_seconds: 60 } }),
);
const judged = good(await ledger.POST("/verify", { body: { token: rotated.token } }));
const kept = await ledger.DELETE("/scim-token/{token_id}", {
  params: { path: { token_id: made.id }, header: { "If-Unused-Since": made.created_at } },
});
const revoked = good(await ledger.DELETE("/scim-token/{token_id}", path(made.id)));
const gone = await ledger.GET("/scim-token/{token_id}", path(made.id));
const trail = good(await ledger.GET("/audit", { params: { query: { token_id: made.id } } }));
if (typeof trail === "string") throw new Error("lines were not asked for");
const wrong = await ledger.POST("/scim-token", { body: { team_id, name: "" } });

console.log(
  JSON.stringify({
    user: me.user_id,
    token_id: made.id,
    is_shown_once: made.token !== "" && !("token" in one),
    names: page.result.map((token) => token.name),
    has_two_secrets: rotated.rotation !== undefined && rotated.token !== made.token,
    is_active: judged.active,
    refused: kept.error?.type,
    revoked: revoked.id,
    gone: gone.error?.type,
    kinds: trail.result.map((row) => row.kind),
    pointers: wrong.error?.errors?.map((error) => error.pointer),
  }),
);
