-- mark_sending: a segment is marked before its POST, so that a POST without an answer is known.
-- ARGV: clock, conversation, nonce, intent's id, segment, attempt, the refuted mark or none.
-- Gives {"go"}, {"sent"}, {"stale"}, or {"ambiguous", now, attempt, its time, when a
-- listing first missed it or "", SIDs...}.

local conversation, segment, attempt = ARGV[2], tonumber(ARGV[5]), ARGV[6]
local expected = optional(ARGV[7])
if not owned(conversation, ARGV[3]) then return { "stale" } end
local intent, sent = intent_of(conversation, ARGV[4])
if not intent then return { "stale" } end
if segment < sent then return { "sent" } end
if segment > sent or segment >= intent.segments then return { "stale" } end

if intent.attempt and intent.attempt ~= attempt then
  if intent.attempt ~= expected then
    local answer = { "ambiguous", digits(now), intent.attempt, digits(intent.at),
      intent.missed and digits(intent.missed) or "" }
    for _, given in ipairs(redis.call("LRANGE", AT, 0, -1)) do
      local ends, sid = string.match(given, "^(%d+) (.*)$")
      if ends and tonumber(ends) > now then answer[#answer + 1] = sid end
    end
    return answer
  end
  intent.resent = true
end
intent.attempt = attempt
intent.at = now
intent.missed = nil
keep_intent(conversation, intent)
return { "go" }
