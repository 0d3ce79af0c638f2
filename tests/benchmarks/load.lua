-- wrk -s load.lua URL -- REQUESTS [BODY]
--
-- REQUESTS: a file with one request per line, METHOD PATH TOKEN, sent in turn and again from the start.
-- BODY: a file with the JSON body of each of them.
-- Requests are formatted once, so that a request costs the generator one table look-up.

local requests, last = {}, 0

function init(args)
  local body = args[2] and io.open(args[2]):read("*a")
  for line in io.lines(args[1]) do
    local method, path, token = line:match("^(%S+) (%S+) (%S+)$")
    local headers = { ["Authorization"] = "Bearer " .. token, ["User-Agent"] = "benchmark" }
    if body then
      headers["Content-Type"] = "application/json"
    end
    requests[#requests + 1] = wrk.format(method, path, headers, body)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

-- One line for `wrk.py`: answers, seconds, answers of 400 and above, lost ones, p50 and p99 in ms.
function done(summary, latency)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("RESULT %d %.6f %d %d %.3f %.3f\n",
    summary.requests, summary.duration / 1e6, errors.status, lost,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
