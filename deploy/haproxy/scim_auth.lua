-- Ask the ledger about one request; fail closed.
--
--   http-request lua.scim_auth http://ledger:8080/gateway/forward
--
-- 200 lets the request through with the ledger's identity headers and without its token. 401, 403, 429 and 503
-- of the ledger go to the client as they are, and so do 400, 414 and 431: it cannot read what the client sent.
-- Everything else, and silence, is 503. Whoever is let in has the variable txn.scim_is_let_in, which the rule after
-- this one asks for: HAProxy takes an error in here for a yes.

local IDENTITY = { "x-scim-team-id", "x-scim-token-id", "x-scim-use-id" }
local ANSWERED = {
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden", [414] = "URI Too Long", [429] = "Too Many Requests",
  [431] = "Request Header Fields Too Large", [503] = "Service Unavailable",
}
local KEPT = { "content-type", "www-authenticate", "retry-after", "cache-control" }
local MEDIA_TYPE = "application/scim+json"
local UNAVAILABLE = '{"schemas":["urn:ietf:params:scim:api:messages:2.0:Error"],"status":"503",'
  .. '"detail":"The token cannot be checked right now. Try again."}'

-- HAProxy's client tries four times: a ledger that is silent costs 2 s, one that is down 3 s.
local TIMEOUT_MS = 500

local function values(headers, name)
  local found = {}
  for _, value in pairs(headers and headers[name] or {}) do
    found[#found + 1] = value
  end
  return found
end

local function refuse(txn, status, body, headers)
  local reply = txn:reply({ status = status, reason = ANSWERED[status], body = body })
  for name, value in pairs(headers) do
    reply:add_header(name, value)
  end
  txn:done(reply)
end

local function scim_auth(txn, url)
  local client = txn.http:req_get_headers()
  local name = values(client, "user-agent")
  local question = {
    ["x-forwarded-method"] = { txn.sf:method() },
    ["x-forwarded-uri"] = { txn.sf:path() },
    ["x-forwarded-for"] = { txn.sf:src() },
    ["authorization"] = values(client, "authorization"),
    -- Without one, HAProxy's client would send a name of its own.
    ["user-agent"] = name[1] and name or { "" },
  }
  local answer = core.httpclient():get({ url = url, headers = question, timeout = TIMEOUT_MS })
  local status = answer and answer.status or 0

  if status == 200 then
    local identity = {}
    for _, name in ipairs(IDENTITY) do
      local value = values(answer.headers, name)[1]
      if value == nil or value == "" then
        return refuse(txn, 503, UNAVAILABLE, { ["content-type"] = MEDIA_TYPE, ["retry-after"] = "1" })
      end
      identity[name] = value
    end
    for name, value in pairs(identity) do
      txn.http:req_set_header(name, value)
    end
    txn.http:req_del_header("authorization")
    txn:set_var("txn.scim_is_let_in", true)
    return
  end

  -- When the ledger cannot be reached, HAProxy's client makes up a 503 of its own, which is not SCIM's.
  if ANSWERED[status] and values(answer.headers, "content-type")[1] == MEDIA_TYPE then
    local kept = {}
    for _, name in ipairs(KEPT) do
      kept[name] = values(answer.headers, name)[1]
    end
    return refuse(txn, status, answer.body, kept)
  end
  refuse(txn, 503, UNAVAILABLE, { ["content-type"] = MEDIA_TYPE, ["retry-after"] = "1" })
end

core.register_action("scim_auth", { "http-req" }, scim_auth, 1)
