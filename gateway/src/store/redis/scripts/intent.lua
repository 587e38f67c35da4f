-- The intent of a conversation, for the verbs that send it. Their last key is the list of SIDs.
-- `sent` is absent while it is empty: an empty table has no JSON list.

local AT = KEYS[#KEYS]

-- The intent of that id, and how many of its segments are sent.
local function intent_of(conversation, id)
  local intent = intent_row(conversation)
  if not intent or intent.id ~= id then return nil end
  return intent, intent.sent and #intent.sent or 0
end

local function keep_intent(conversation, intent)
  redis.call("HSET", INT, conversation, cjson.encode(intent))
  changed()
end
