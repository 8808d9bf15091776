-- The size of the bodies in a place, in bytes: every publish looks, as RabbitMQ does (`x-max-length-bytes`).
alter table bus_lengths add column bytes integer not null default 0 constraint bus_lengths_bytes check (bytes >= 0);

update bus_lengths set bytes =
    (select coalesce(sum(length(body)), 0) from bus_messages where bus_messages.place = bus_lengths.place);

drop trigger bus_messages_come;
drop trigger bus_messages_go;
drop trigger bus_messages_move;

create trigger bus_messages_come after insert on bus_messages begin
    insert into bus_lengths (place, messages, bytes) values (new.place, 1, length(new.body))
    on conflict (place) do update set messages = messages + 1, bytes = bytes + excluded.bytes;
end;

create trigger bus_messages_go after delete on bus_messages begin
    update bus_lengths set messages = messages - 1, bytes = bytes - length(old.body) where place = old.place;
end;

create trigger bus_messages_move after update of place on bus_messages begin
    update bus_lengths set messages = messages - 1, bytes = bytes - length(old.body) where place = old.place;
    insert into bus_lengths (place, messages, bytes) values (new.place, 1, length(new.body))
    on conflict (place) do update set messages = messages + 1, bytes = bytes + excluded.bytes;
end;
