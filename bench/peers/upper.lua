-- The upper-case server as a service of haproxy: line by line, which is what its interface gives.
core.register_service("upper", "tcp", function(applet)
	while true do
		local line = applet:getline()
		if line == nil or line == "" then
			return
		end
		applet:send(string.upper(line))
	end
end)
